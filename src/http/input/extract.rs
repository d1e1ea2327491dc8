//! Parts of a request, with our errors.

use std::str::FromStr;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, FailedToBufferBody};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use serde_json::Value;

use crate::domain::JobId;
use crate::domain::webhook::WebhookId;
use crate::http::error::{ApiError, FieldProblem};
use crate::http::input::duplicates::duplicates;
use crate::http::{BODY_LIMIT, HttpState};

/// A JSON body. `serde_json` refuses more than 128 levels by itself.
pub(in crate::http) struct JsonBody(pub(in crate::http) Value);

impl FromRequest<HttpState> for JsonBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &HttpState) -> Result<Self, ApiError> {
        check_content(request.headers())?;
        // Refused before a byte of it is sent.
        let length = request.headers().get(header::CONTENT_LENGTH);
        let length = length.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        if length.is_some_and(|length| length > BODY_LIMIT as u64) {
            return Err(ApiError::PayloadTooLarge { limit: BODY_LIMIT });
        }
        // The whole request may be allowed to take longer, because it waits for something.
        let read = tokio::time::timeout(state.limits.request, Bytes::from_request(request, state));
        let read = read.await.map_err(|_elapsed| ApiError::Timeout)?;
        let bytes = read.map_err(|rejection| match rejection {
            BytesRejection::FailedToBufferBody(FailedToBufferBody::LengthLimitError(_)) => {
                ApiError::PayloadTooLarge { limit: BODY_LIMIT }
            }
            other => malformed(&other),
        })?;
        let value = serde_json::from_slice(&bytes).map_err(|error| malformed(&error))?;
        match duplicates(&bytes).map_err(|error| malformed(&error))? {
            pointers if pointers.is_empty() => Ok(Self(value)),
            pointers => Err(ApiError::Invalid(
                pointers.iter().map(|pointer| duplicate(pointer)).collect(),
            )),
        }
    }
}

fn duplicate(pointer: &str) -> FieldProblem {
    let detail = "the field is given more than once".to_owned();
    FieldProblem::body(pointer, "duplicate_field", detail)
}

fn check_content(headers: &HeaderMap) -> Result<(), ApiError> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    if text(header::CONTENT_ENCODING)
        .is_some_and(|encoding| !encoding.eq_ignore_ascii_case("identity"))
    {
        return Err(ApiError::UnsupportedMediaType(
            "compressed request bodies are not taken",
        ));
    }
    if !text(header::CONTENT_TYPE).is_some_and(is_json) {
        return Err(ApiError::UnsupportedMediaType(
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

fn malformed(error: &dyn std::error::Error) -> ApiError {
    ApiError::Invalid(vec![FieldProblem::body(
        "",
        "malformed_json",
        error.to_string(),
    )])
}

/// The `{id}` of a route.
pub(in crate::http) struct JobPath(pub(in crate::http) JobId);

impl<S: Send + Sync> FromRequestParts<S> for JobPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let id = path_part(parts, state, "id").await?;
        id.parse()
            .map(Self)
            .map_err(|_message| ApiError::NotAJobId(id.chars().take(80).collect()))
    }
}

/// The `{id}` of a webhook's route.
pub(in crate::http) struct WebhookPath(pub(in crate::http) WebhookId);

impl<S: Send + Sync> FromRequestParts<S> for WebhookPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let id = path_part(parts, state, "id").await?;
        id.parse()
            .map(Self)
            .map_err(|_message| ApiError::NotAWebhookId(id.chars().take(80).collect()))
    }
}

/// The `{delivery}` of a route.
pub(in crate::http) struct DeliveryPath(pub(in crate::http) String);

impl<S: Send + Sync> FromRequestParts<S> for DeliveryPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        path_part(parts, state, "delivery").await.map(Self)
    }
}

/// Routes may have further parts, so each is looked up by its name.
async fn path_part<S: Send + Sync>(
    parts: &mut Parts,
    state: &S,
    name: &str,
) -> Result<String, ApiError> {
    let pairs = Path::<Vec<(String, String)>>::from_request_parts(parts, state).await;
    let Path(pairs) = pairs.map_err(|_rejection| ApiError::RouteNotFound)?;
    let part = pairs.into_iter().find(|(part, _)| part == name);
    Ok(part.map(|(_, value)| value).unwrap_or_default())
}

/// The `{id}` of a route that names a worker: any text.
pub(in crate::http) struct WorkerPath(pub(in crate::http) String);

impl<S: Send + Sync> FromRequestParts<S> for WorkerPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        path_part(parts, state, "id").await.map(Self)
    }
}

/// The query string, to be taken apart name by name; what nobody took is an error.
pub(in crate::http) struct Parameters {
    pairs: Vec<(String, String)>,
    known: Vec<&'static str>,
    errors: Vec<FieldProblem>,
}

impl<S: Send + Sync> FromRequestParts<S> for Parameters {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        // Decoding replaces what is no text, which would then be looked for.
        if has_bytes_that_are_no_text(parts.uri.query().unwrap_or_default()) {
            let detail = "the query string is not UTF-8".to_owned();
            return Err(ApiError::Invalid(vec![FieldProblem::parameter(
                "",
                "malformed_query",
                detail,
            )]));
        }
        let pairs = Query::<Vec<(String, String)>>::from_request_parts(parts, state).await;
        let Query(pairs) = pairs.map_err(|rejection| {
            ApiError::Invalid(vec![FieldProblem::parameter(
                "",
                "malformed_query",
                rejection.body_text(),
            )])
        })?;
        Ok(Self {
            pairs,
            known: Vec::new(),
            errors: Vec::new(),
        })
    }
}

fn has_bytes_that_are_no_text(query: &str) -> bool {
    let mut bytes = Vec::with_capacity(query.len());
    let mut rest = query.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = tail.get(..2).filter(|_| first == b'%');
        let decoded = escaped.and_then(|digits| hex::decode(digits).ok());
        rest = if decoded.is_some() { &tail[2..] } else { tail };
        bytes.extend(decoded.unwrap_or_else(|| vec![first]));
    }
    std::str::from_utf8(&bytes).is_err()
}

/// For routes without parameters.
pub(in crate::http) struct NoParameters;

impl<S: Send + Sync> FromRequestParts<S> for NoParameters {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let parameters = Parameters::from_request_parts(parts, state).await?;
        parameters.finish().map(|()| Self)
    }
}

impl Parameters {
    /// The parameter as a `T`, if it is there and right.
    pub(in crate::http) fn take<T>(&mut self, name: &'static str) -> Option<T>
    where
        T: FromStr,
        T::Err: std::fmt::Display,
    {
        self.take_with(name, |text| {
            text.parse().map_err(|error: T::Err| error.to_string())
        })
    }

    /// The parameter, turned into what is wanted by `parse`.
    pub(in crate::http) fn take_with<T>(
        &mut self,
        name: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        self.known.push(name);
        let mut values = self
            .pairs
            .iter()
            .filter(|(key, _)| key == name)
            .map(|(_, value)| value);
        let value = values.next()?;
        if values.next().is_some() {
            self.errors.push(FieldProblem::parameter(
                name,
                "duplicate",
                "is given more than once".to_owned(),
            ));
            return None;
        }
        match parse(value) {
            Ok(parsed) => Some(parsed),
            Err(detail) => {
                self.errors
                    .push(FieldProblem::parameter(name, "invalid_format", detail));
                None
            }
        }
    }

    /// A page's length.
    pub(in crate::http) fn limit(&mut self, default: u32, most: u32) -> u32 {
        let limit = self.take_with("limit", |text| match text.parse::<u32>() {
            Ok(limit) if (1..=most).contains(&limit) => Ok(limit),
            _ => Err(format!("{text:?} is not a whole number from 1 to {most}")),
        });
        limit.unwrap_or(default)
    }

    /// All errors at once, unknown names included.
    pub(in crate::http) fn finish(mut self) -> Result<(), ApiError> {
        for (name, _) in self
            .pairs
            .iter()
            .filter(|(name, _)| !self.known.contains(&name.as_str()))
        {
            let detail = if self.known.is_empty() {
                "this route takes no parameters".to_owned()
            } else {
                format!(
                    "unknown parameter, expected one of {}",
                    self.known.join(", ")
                )
            };
            self.errors
                .push(FieldProblem::parameter(name, "unknown_parameter", detail));
        }
        if self.errors.is_empty() {
            Ok(())
        } else {
            Err(ApiError::Invalid(self.errors))
        }
    }
}
