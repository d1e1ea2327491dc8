//! `Idempotency-Key`: a submission that is repeated under its key is answered as it was before.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use crate::domain::idempotency::{IdempotencyKey, Reply};
use crate::http::output::problem::{FieldProblem, Problem};

const KEY: HeaderName = HeaderName::from_static("idempotency-key");
pub(in crate::http) const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// The key of a request, if it has one.
pub(in crate::http) struct OptionalKey(pub(in crate::http) Option<IdempotencyKey>);

impl<S: Send + Sync> FromRequestParts<S> for OptionalKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let wrong = |code, detail| {
            let problem = FieldProblem::header(&KEY, code, detail);
            Problem::invalid(vec![problem])
        };
        let mut values = parts.headers.get_all(KEY).iter();
        let Some(value) = values.next() else {
            return Ok(Self(None));
        };
        if values.next().is_some() {
            return Err(wrong("duplicate", "is given more than once".to_owned()));
        }
        // What is no text is no key, and neither is the text that it is replaced by.
        let key = value.to_str().unwrap_or_default().parse();
        key.map(|key| Self(Some(key)))
            .map_err(|detail| wrong("invalid_format", detail))
    }
}

/// The answer as a response.
pub(in crate::http) fn response(reply: Reply) -> Response {
    let status = StatusCode::from_u16(reply.status);
    let mut response = reply.body.into_response();
    *response.status_mut() = status.unwrap_or(StatusCode::OK);
    for (name, value) in reply.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// The same for a request that was answered before.
pub(in crate::http) fn repeated(reply: Reply) -> Response {
    let mut response = response(reply);
    let headers = response.headers_mut();
    headers.insert(REPLAYED, HeaderValue::from_static("true"));
    response
}
