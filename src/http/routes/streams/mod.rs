//! `/v1/events/stream` and `/v1/jobs/{id}/events/stream`: the logs as server-sent events.

mod body;
mod message;

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use tokio::sync::OwnedSemaphorePermit;

use crate::domain::ErrorCode;
use crate::http::HttpState;
use crate::http::input::path::JobPath;
use crate::http::input::query::Parameters;
use crate::http::output::problem::{FieldProblem, Problem};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Follow a job's log
///
/// Server-sent events. Everything in the log after `Last-Event-ID`, from its beginning without it, then what happens
/// as it happens: `id` is the entry's `seq`, `event` its `type`, `data` the entry. Between them and without an `id` comes
/// `progress`, at most twice a second. After the entry that ends the job comes `end`, and the stream ends. A client that
/// connects again then gets 204, upon which a browser's `EventSource` stops, and 404 when the job was deleted. `resync` says that
/// the job's log has no entry with that number, and that the whole log follows. A comment is sent after every 15 seconds
/// without a message.
#[utoipa::path(
    get, path = "/jobs/{id}/events/stream", tag = "jobs",
    params(
        ("id" = String, Path, description = "The job"),
        ("after" = Option<u64>, Query, description = "As `Last-Event-ID`, for a client that cannot set headers"),
        ("Last-Event-ID" = Option<String>, Header, description = "The last `id` that was received; counts more than `after`", example = "17"),
    ),
    responses(
        (status = 200, description = "The stream", body = String, content_type = "text/event-stream"),
        (status = 204, description = "The job is over, and the client has its whole log"),
        (status = 400, description = "`invalid_request`"),
        (status = 404, description = "`job_not_found`"),
        (status = 503, description = "`unavailable`"),
    )
)]
pub(super) async fn stream_job(
    State(state): State<HttpState>,
    JobPath(id): JobPath,
    parameters: Parameters,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let after = resume_after(parameters, &headers)?;
    let permit = permit(&state)?;
    Ok(match state.jobs.follow(id, after.unwrap_or(0)).await? {
        Some(following) => body::response(&state, following, permit),
        None => StatusCode::NO_CONTENT.into_response(),
    })
}

/// Follow what happens to all jobs
///
/// Server-sent events. Everything after `Last-Event-ID`, without it only what happens from now on: `id` is a number
/// that grows from entry to entry over all jobs, `event` the entry's `type`, `data` the entry with its `job_id`. The first
/// message has an `id` and no data, so that a client that is disconnected before the first event can go on too. The log of a
/// deleted job is deleted with it, so numbers may be missing. `resync` says that there never was an event with that number: read
/// the jobs again, the stream goes on after its `id`. A comment is sent after every 15 seconds without a message.
#[utoipa::path(
    get, path = "/v1/events/stream", tag = "jobs",
    params(
        ("after" = Option<u64>, Query, description = "As `Last-Event-ID`, for a client that cannot set headers; 0 = from the beginning"),
        ("Last-Event-ID" = Option<String>, Header, description = "The last `id` that was received; counts more than `after`", example = "1017"),
    ),
    responses(
        (status = 200, description = "The stream", body = String, content_type = "text/event-stream"),
        (status = 400, description = "`invalid_request`"),
        (status = 503, description = "`unavailable`"),
    )
)]
pub(super) async fn stream_all(
    State(state): State<HttpState>,
    parameters: Parameters,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let after = resume_after(parameters, &headers)?;
    let permit = permit(&state)?;
    let following = state.jobs.follow_all(after).await?;
    Ok(body::response(&state, following, permit))
}

/// Streams are open for hours, and must leave connections to everybody else.
fn permit(state: &HttpState) -> Result<OwnedSemaphorePermit, Problem> {
    let permit = Arc::clone(&state.held).try_acquire_owned();
    permit.map_err(|_none_left| {
        let detail = "as many streams are open as this server allows";
        Problem::new(ErrorCode::Unavailable, detail)
    })
}

/// What the client has already. The header comes from an `EventSource` that connects again, with the address it began with.
fn resume_after(mut parameters: Parameters, headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let parameter = parameters.take_with("after", number);
    parameters.finish()?;
    // An `EventSource` that has received no id yet may say so.
    let header = headers
        .get(LAST_EVENT_ID)
        .filter(|value| !value.is_empty())
        .map(|value| number(&String::from_utf8_lossy(value.as_bytes())));
    match header.transpose() {
        Ok(header) => Ok(header.or(parameter)),
        Err(detail) => {
            let problem = FieldProblem::header(&LAST_EVENT_ID, "invalid_format", detail);
            Err(Problem::invalid(vec![problem]))
        }
    }
}

/// Digits only; the database knows no higher numbers than those of signed integers.
fn number(text: &str) -> Result<u64, String> {
    let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let number = is_number.then(|| text.parse::<u64>().ok()).flatten();
    number
        .filter(|&number| i64::try_from(number).is_ok())
        .ok_or_else(|| format!("{text:?} is not the number of an event"))
}
