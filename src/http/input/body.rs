//! JSON bodies.

use axum::body::{Bytes, HttpBody as _};
use axum::extract::rejection::{BytesRejection, FailedToBufferBody};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, header};
use serde_json::{Value, json};

use super::duplicates::duplicates;
use crate::domain::ErrorCode;
use crate::http::output::problem::{FieldProblem, Problem};
use crate::http::{BODY_LIMIT, HttpState};

/// A JSON body. `serde_json` refuses more than 128 levels by itself.
pub(in crate::http) struct JsonBody(pub(in crate::http) Value);

/// A JSON body that may be left out, or `null`: then it is an empty object.
pub(in crate::http) struct OptionalBody(pub(in crate::http) Value);

impl FromRequest<HttpState> for OptionalBody {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &HttpState) -> Result<Self, Problem> {
        let body = if request.body().is_end_stream() {
            Value::Null
        } else {
            JsonBody::from_request(request, state).await?.0
        };
        Ok(Self(if body.is_null() { json!({}) } else { body }))
    }
}

impl FromRequest<HttpState> for JsonBody {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &HttpState) -> Result<Self, Problem> {
        check_content(request.headers())?;
        // Refused before a byte of it is sent.
        let length = request.headers().get(header::CONTENT_LENGTH);
        let length = length.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        if length.is_some_and(|length| length > BODY_LIMIT as u64) {
            return Err(too_large());
        }
        // The whole request may be allowed to take longer, because it waits for something.
        let read = tokio::time::timeout(state.limits.request, Bytes::from_request(request, state));
        let read = read.await.map_err(|_elapsed| Problem::timeout())?;
        let bytes = read.map_err(|rejection| match rejection {
            BytesRejection::FailedToBufferBody(FailedToBufferBody::LengthLimitError(_)) => {
                too_large()
            }
            other => malformed(&other),
        })?;
        let value = serde_json::from_slice(&bytes).map_err(|error| malformed(&error))?;
        match duplicates(&bytes).map_err(|error| malformed(&error))? {
            pointers if pointers.is_empty() => Ok(Self(value)),
            pointers => Err(Problem::invalid(
                pointers.iter().map(|pointer| duplicate(pointer)).collect(),
            )),
        }
    }
}

fn too_large() -> Problem {
    let detail = format!("the request body is larger than {BODY_LIMIT} bytes");
    Problem::new(ErrorCode::PayloadTooLarge, detail)
}

fn duplicate(pointer: &str) -> FieldProblem {
    let detail = "the field is given more than once".to_owned();
    FieldProblem::body(pointer, "duplicate_field", detail)
}

fn check_content(headers: &HeaderMap) -> Result<(), Problem> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    if text(header::CONTENT_ENCODING)
        .is_some_and(|encoding| !encoding.eq_ignore_ascii_case("identity"))
    {
        return Err(Problem::new(
            ErrorCode::UnsupportedMediaType,
            "compressed request bodies are not taken",
        ));
    }
    if !text(header::CONTENT_TYPE).is_some_and(is_json) {
        return Err(Problem::new(
            ErrorCode::UnsupportedMediaType,
            "the content type of the request is not application/json",
        ));
    }
    Ok(())
}

fn is_json(content_type: &str) -> bool {
    let essence = content_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    essence == "application/json"
        || (essence.starts_with("application/") && essence.ends_with("+json"))
}

fn malformed(error: &dyn std::error::Error) -> Problem {
    Problem::invalid(vec![FieldProblem::body(
        "",
        "malformed_json",
        error.to_string(),
    )])
}
