//! `Idempotency-Key`: names a request, so that it can be repeated safely.

use axum::extract::FromRequestParts;
use axum::http::HeaderName;
use axum::http::request::Parts;

use crate::domain::idempotency::IdempotencyKey;
use crate::http::output::problem::{FieldProblem, Problem};

const KEY: HeaderName = HeaderName::from_static("idempotency-key");

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
        // A value that is no text is no key either.
        let key = value.to_str().unwrap_or_default().parse();
        key.map(|key| Self(Some(key)))
            .map_err(|detail| wrong("invalid_format", detail))
    }
}
