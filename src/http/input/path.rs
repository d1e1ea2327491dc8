//! The parts of a path.

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;

use crate::domain::webhook::WebhookId;
use crate::domain::{ErrorCode, JobId};
use crate::http::output::problem::Problem;

/// The most characters of a part that an error repeats.
const SHOWN_CHARS: usize = 80;

/// The `{id}` of a job's route.
pub(in crate::http) struct JobPath(pub(in crate::http) JobId);

impl<S: Send + Sync> FromRequestParts<S> for JobPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let id = path_part(parts, state, "id").await?;
        id.parse()
            .map(Self)
            .map_err(|_message| not_an_id(ErrorCode::JobNotFound, "a job", &id))
    }
}

/// The `{id}` of a webhook's route.
pub(in crate::http) struct WebhookPath(pub(in crate::http) WebhookId);

impl<S: Send + Sync> FromRequestParts<S> for WebhookPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let id = path_part(parts, state, "id").await?;
        id.parse()
            .map(Self)
            .map_err(|_message| not_an_id(ErrorCode::WebhookNotFound, "a webhook", &id))
    }
}

fn not_an_id(code: ErrorCode, of: &str, id: &str) -> Problem {
    let shown: String = id.chars().take(SHOWN_CHARS).collect();
    Problem::new(code, format!("{shown:?} is not the id of {of}"))
}

/// The `{delivery}` of a route.
pub(in crate::http) struct DeliveryPath(pub(in crate::http) String);

impl<S: Send + Sync> FromRequestParts<S> for DeliveryPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        path_part(parts, state, "delivery").await.map(Self)
    }
}

/// The `{id}` of a route that names a worker: any text.
pub(in crate::http) struct WorkerPath(pub(in crate::http) String);

impl<S: Send + Sync> FromRequestParts<S> for WorkerPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        path_part(parts, state, "id").await.map(Self)
    }
}

/// Routes may have further parts, so each is looked up by its name.
async fn path_part<S: Send + Sync>(
    parts: &mut Parts,
    state: &S,
    name: &str,
) -> Result<String, Problem> {
    let pairs = Path::<Vec<(String, String)>>::from_request_parts(parts, state).await;
    let Path(pairs) = pairs.map_err(|_rejection| Problem::route_not_found())?;
    let part = pairs.into_iter().find(|(part, _)| part == name);
    Ok(part.map(|(_, value)| value).unwrap_or_default())
}
