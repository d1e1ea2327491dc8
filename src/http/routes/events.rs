//! `/v1/jobs/{id}/events`.

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use crate::domain::job::event::Event;
use crate::http::HttpState;
use crate::http::input::path::JobPath;
use crate::http::input::query::Parameters;
use crate::http::output::problem::Problem;

const DEFAULT_LIMIT: u32 = 100;
const MAX_LIMIT: u32 = 1000;

/// A part of a job's log.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = EventList)]
pub(super) struct EventsView {
    /// Always `list`.
    object: &'static str,
    /// Oldest first.
    data: Vec<Event>,
    /// Pass it as `after` to go on.
    last_seq: u64,
}

/// Read a job's log
///
/// What happened, in order and numbered without gaps: pass the last number you have as `after`.
#[utoipa::path(
    get, path = "/jobs/{id}/events", tag = "jobs",
    params(
        ("id" = String, Path, description = "The job"),
        ("after" = Option<u64>, Query, description = "Only entries with a higher number"),
        ("limit" = Option<u32>, Query, description = "Most entries to get", minimum = 1, maximum = 1000),
    ),
    responses(
        (status = 200, description = "The entries", body = EventsView),
        (status = 400, description = "`invalid_request`"),
        (status = 404, description = "`job_not_found`"),
    )
)]
pub(super) async fn list_events(
    State(state): State<HttpState>,
    JobPath(id): JobPath,
    mut parameters: Parameters,
) -> Result<Json<EventsView>, Problem> {
    let after = parameters.take_with("after", number).unwrap_or(0);
    let limit = parameters.limit(DEFAULT_LIMIT, MAX_LIMIT);
    parameters.finish()?;
    let data = state.jobs.events(id, after, limit).await?;
    let last_seq = data.last().map_or(after, |event| event.seq);
    Ok(Json(EventsView {
        object: "list",
        data,
        last_seq,
    }))
}

/// A number that databases have: they know no larger ones.
fn number(text: &str) -> Result<u64, String> {
    let number = text.parse::<i64>().map_err(|error| error.to_string())?;
    u64::try_from(number).map_err(|_negative| "it is negative".to_owned())
}
