//! What can be asked of a job: `/v1/jobs/{id}/cancel`, `/pause`, `/resume`, `/retry`, and `DELETE /v1/jobs/{id}`.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;

use super::jobs::whole_job;
use crate::domain::JobId;
use crate::domain::job::state::Action;
use crate::http::HttpState;
use crate::http::input::body::OptionalBody;
use crate::http::input::body_schema::CancelBody;
use crate::http::input::conditional::expected_version;
use crate::http::input::path::JobPath;
use crate::http::input::query::NoParameters;
use crate::http::output::job::JobView;
use crate::http::output::problem::Problem;

async fn ask(
    state: &HttpState,
    id: JobId,
    action: Action,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let if_version = expected_version(headers)?;
    let (job, attempts) = state.jobs.request(id, action, if_version).await?;
    Ok(whole_job(state, job, attempts).await)
}

/// Cancel a job
///
/// A job without a worker is cancelled at once. A running one becomes `cancelling` until its worker has stopped,
/// which takes seconds. The body may say who asks for it and why, which the job then shows. Idempotent: the first
/// cancellation stays.
#[utoipa::path(
    post, path = "/jobs/{id}/cancel", tag = "jobs",
    params(
        ("id" = String, Path, description = "The job"),
        ("If-Match" = Option<String>, Header, description = "Only while the job has this `ETag`; progress since then does not matter"),
    ),
    request_body(content = Option<CancelBody>, content_type = "application/json"),
    responses(
        (status = 200, description = "The job", body = JobView),
        (status = 403, description = "`cross_origin`"),
        (status = 404, description = "`job_not_found`"),
        (status = 409, description = "`invalid_transition`"),
        (status = 412, description = "`version_mismatch`"),
        (status = 413, description = "`payload_too_large`"),
        (status = 415, description = "`unsupported_media_type`"),
    )
)]
pub(super) async fn cancel_job(
    _: NoParameters,
    State(state): State<HttpState>,
    JobPath(id): JobPath,
    headers: HeaderMap,
    OptionalBody(body): OptionalBody,
) -> Result<Response, Problem> {
    let if_version = expected_version(&headers)?;
    let (job, attempts) = state.jobs.cancel(id, &body, if_version).await?;
    Ok(whole_job(&state, job, attempts).await)
}

/// Pause a job
///
/// A queued job is paused at once. A running one becomes `pausing`; while it prunes it stops after the current block,
/// and goes on there when it is resumed. In any other phase it stops at once, and that phase starts over.
#[utoipa::path(
    post, path = "/jobs/{id}/pause", tag = "jobs",
    params(
        ("id" = String, Path, description = "The job"),
        ("If-Match" = Option<String>, Header, description = "Only while the job has this `ETag`"),
    ),
    responses(
        (status = 200, description = "The job", body = JobView),
        (status = 403, description = "`cross_origin`"),
        (status = 404, description = "`job_not_found`"),
        (status = 409, description = "`invalid_transition`"),
        (status = 412, description = "`version_mismatch`"),
    )
)]
pub(super) async fn pause_job(
    _: NoParameters,
    State(state): State<HttpState>,
    JobPath(id): JobPath,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    ask(&state, id, Action::Pause, &headers).await
}

/// Resume a job
///
/// A paused job is queued again.
#[utoipa::path(
    post, path = "/jobs/{id}/resume", tag = "jobs",
    params(
        ("id" = String, Path, description = "The job"),
        ("If-Match" = Option<String>, Header, description = "Only while the job has this `ETag`"),
    ),
    responses(
        (status = 200, description = "The job", body = JobView),
        (status = 403, description = "`cross_origin`"),
        (status = 404, description = "`job_not_found`"),
        (status = 409, description = "`invalid_transition`"),
        (status = 412, description = "`version_mismatch`"),
    )
)]
pub(super) async fn resume_job(
    _: NoParameters,
    State(state): State<HttpState>,
    JobPath(id): JobPath,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    ask(&state, id, Action::Resume, &headers).await
}

/// Try a job again
///
/// A job that has failed or was cancelled is queued again as it was submitted, with a fresh budget of attempts and, if it
/// has one, a fresh deadline.
#[utoipa::path(
    post, path = "/jobs/{id}/retry", tag = "jobs",
    params(
        ("id" = String, Path, description = "The job"),
        ("If-Match" = Option<String>, Header, description = "Only while the job has this `ETag`"),
    ),
    responses(
        (status = 200, description = "The job", body = JobView),
        (status = 403, description = "`cross_origin`"),
        (status = 404, description = "`job_not_found`"),
        (status = 409, description = "`invalid_transition`"),
        (status = 412, description = "`version_mismatch`"),
    )
)]
pub(super) async fn retry_job(
    _: NoParameters,
    State(state): State<HttpState>,
    JobPath(id): JobPath,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    ask(&state, id, Action::Retry, &headers).await
}

/// Keep a job
///
/// It is not deleted when its retention is over. Idempotent.
#[utoipa::path(
    post, path = "/jobs/{id}/keep", tag = "jobs",
    params(
        ("id" = String, Path, description = "The job"),
        ("If-Match" = Option<String>, Header, description = "Only while the job has this `ETag`"),
    ),
    responses(
        (status = 200, description = "The job", body = JobView),
        (status = 403, description = "`cross_origin`"),
        (status = 404, description = "`job_not_found`"),
        (status = 412, description = "`version_mismatch`"),
    )
)]
pub(super) async fn keep_job(
    _: NoParameters,
    State(state): State<HttpState>,
    JobPath(id): JobPath,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    set_kept(&state, id, true, &headers).await
}

/// Keep a job no longer
///
/// It is deleted when its retention is over, as any other. Idempotent.
#[utoipa::path(
    post, path = "/jobs/{id}/unkeep", tag = "jobs",
    params(
        ("id" = String, Path, description = "The job"),
        ("If-Match" = Option<String>, Header, description = "Only while the job has this `ETag`"),
    ),
    responses(
        (status = 200, description = "The job", body = JobView),
        (status = 403, description = "`cross_origin`"),
        (status = 404, description = "`job_not_found`"),
        (status = 412, description = "`version_mismatch`"),
    )
)]
pub(super) async fn unkeep_job(
    _: NoParameters,
    State(state): State<HttpState>,
    JobPath(id): JobPath,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    set_kept(&state, id, false, &headers).await
}

async fn set_kept(
    state: &HttpState,
    id: JobId,
    kept: bool,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let if_version = expected_version(headers)?;
    let (job, attempts) = state.jobs.set_kept(id, kept, if_version).await?;
    Ok(whole_job(state, job, attempts).await)
}

/// Delete a job
///
/// Deletes a job that is over, with its log, its results and its artifact. Idempotent.
#[utoipa::path(
    delete, path = "/jobs/{id}", tag = "jobs",
    params(
        ("id" = String, Path, description = "The job"),
        ("If-Match" = Option<String>, Header, description = "Only while the job has this `ETag`"),
    ),
    responses(
        (status = 204, description = "It is gone"),
        (status = 403, description = "`cross_origin`"),
        (status = 404, description = "`job_not_found`"),
        (status = 409, description = "`invalid_transition`, `artifact_in_use`"),
        (status = 412, description = "`version_mismatch`"),
    )
)]
pub(super) async fn delete_job(
    _: NoParameters,
    State(state): State<HttpState>,
    JobPath(id): JobPath,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let if_version = expected_version(&headers)?;
    state.jobs.delete(id, if_version).await?;
    Ok(StatusCode::NO_CONTENT)
}
