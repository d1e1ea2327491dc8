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
    /// Whether there is a next page now.
    has_more: bool,
    /// Pass it as `cursor` to get the next page; later entries come after the last `seq`.
    next_cursor: Option<String>,
}

/// Read a job's log
///
/// What happened, in order and numbered without gaps. To go on with a log that grows, pass the last `seq` you have as `after`.
#[utoipa::path(
    get, path = "/jobs/{id}/events", tag = "jobs",
    params(
        ("id" = String, Path, description = "The job"),
        ("after" = Option<u64>, Query, description = "Only entries with a higher number"),
        ("limit" = Option<u32>, Query, description = "Length of the page", minimum = 1, maximum = 1000),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before", pattern = "^[0-9]{1,18}$"),
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
    let after = parameters.take_with("after", number);
    let cursor = parameters.take_with("cursor", number);
    let limit = parameters.limit(DEFAULT_LIMIT, MAX_LIMIT);
    parameters.finish()?;
    let after = after.max(cursor).unwrap_or(0);
    // One more than asked tells whether there is a next page.
    let mut data = state.jobs.events(id, after, limit + 1).await?;
    let has_more = data.len() > limit as usize;
    data.truncate(limit as usize);
    let last = data.last().filter(|_| has_more);
    Ok(Json(EventsView {
        object: "list",
        has_more,
        next_cursor: last.map(|event| event.seq.to_string()),
        data,
    }))
}

/// A number that databases have: they know no larger ones.
fn number(text: &str) -> Result<u64, String> {
    let number = text.parse::<i64>().map_err(|error| error.to_string())?;
    u64::try_from(number).map_err(|_negative| "it is negative".to_owned())
}
