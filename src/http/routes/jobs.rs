//! `/v1/jobs` and `/v1/jobs/{id}`.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use crate::domain::idempotency::{IdempotencyKey, KeyedRequest, Reply};
use crate::domain::job::Job;
use crate::domain::job::JobFilter;
use crate::domain::job::event::Attempt;
use crate::domain::job::state::JobState;
use crate::domain::queue::ClusterState;
use crate::domain::queue::places::Places;
use crate::engine::PruningMethod;
use crate::http::HttpState;
use crate::http::input::body::JsonBody;
use crate::http::input::body_schema::JobBody;
use crate::http::input::conditional::{has_seen_version, is_unchanged, job_tag};
use crate::http::input::idempotency::OptionalKey;
use crate::http::input::path::JobPath;
use crate::http::input::preferences;
use crate::http::input::query::{NoParameters, Parameters};
use crate::http::output::job::{JobView, ListView, job_path};
use crate::http::output::problem::Problem;
use crate::http::output::turn::TurnView;
use crate::http::output::waiting;
use crate::jobs::Submitted;
use crate::request::limits;

/// Seconds after which looking at a job that is not over is worth it.
const POLL_SECONDS: &str = "2";
const POLL_HINT: HeaderValue = HeaderValue::from_static(POLL_SECONDS);

/// Marks the answer to an earlier request.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

const DEFAULT_LIMIT: u32 = 20;
const MAX_LIMIT: u32 = 100;

/// Submit a job
///
/// The minimal body is `{"model": "org/name", "sparsity": 0.5, "pattern": "unstructured"}`, or `{"type": "evaluate",
/// "model": "org/name"}` to measure without pruning; every default is filled into the answer. All wrong fields are reported at once. When this answers 202, the job survives a crash.
#[utoipa::path(
    post, path = "/jobs", tag = "jobs",
    params(
        ("Prefer" = Option<String>, Header, description = "`wait=SECONDS`, at most 60: answer when the job is over", example = "wait=30"),
        ("Idempotency-Key" = Option<String>, Header, description = "Names this submission, so that it can be repeated: within 24 hours the same body under the same key is answered as before, and no second job is made", min_length = 1, max_length = 255, pattern = "^[!-~]+$"),
    ),
    request_body(content = JobBody, content_type = "application/json"),
    responses(
        (status = 200, description = "The job is over within the time that `Prefer` allows; or, with `on_duplicate`, an earlier one does the same work", body = JobView, headers(
            ("Location" = String, description = "The job"),
            ("Content-Location" = String, description = "The earlier job, where no other one was made"),
            ("ETag" = String, description = "Changes with everything about the job but its place in the queue; `If-Match` takes it and overlooks progress"),
            ("Preference-Applied" = String, description = "`wait=SECONDS`"),
        )),
        (status = 202, description = "Accepted", body = JobView, headers(
            ("Location" = String, description = "The job"),
            ("ETag" = String, description = "Changes with everything about the job but its place in the queue; `If-Match` takes it and overlooks progress"),
            ("Retry-After" = u32, description = "Seconds"),
            ("Preference-Applied" = String, description = "`wait=SECONDS`, if it was requested"),
            ("Idempotency-Replayed" = bool, description = "`true` where this is the answer to an earlier request under the same key"),
        )),
        (status = 400, description = "`invalid_request`"),
        (status = 403, description = "`cross_origin`"),
        (status = 413, description = "`payload_too_large`"),
        (status = 415, description = "`unsupported_media_type`"),
        (status = 404, description = "`job_not_found`"),
        (status = 422, description = "`model_not_found`, `unsupported_architecture`, `pattern_mismatch`, `dataset_not_found`, … : well-formed, and cannot be done; `idempotency_key_reused`: the key was sent with another body"),
    )
)]
pub(super) async fn create_job(
    _: NoParameters,
    State(state): State<HttpState>,
    OptionalKey(key): OptionalKey,
    headers: HeaderMap,
    body: JsonBody,
) -> Result<Response, Problem> {
    let submitted = submit(&state, key, &body.0).await?;
    let id = submitted.id();
    let wait = preferences::wait(&headers);
    let (granted, now) = match wait {
        Some(wait) => waiting::until_over(&state, id, wait).await,
        None => (Duration::ZERO, None),
    };
    let mut response = match now {
        Some((job, attempts)) => {
            let is_over = job.state.is_terminal();
            let mut response = whole_job(&state, job, attempts).await;
            if !is_over && !matches!(submitted, Submitted::Equal(_)) {
                *response.status_mut() = StatusCode::ACCEPTED;
            }
            response
        }
        None => match &submitted {
            Submitted::New(reply) | Submitted::Repeated(reply) => accepted(reply),
            Submitted::Equal(id) => {
                let (job, attempts) = state.jobs.get_with_attempts(*id).await?;
                whole_job(&state, job, attempts).await
            }
        },
    };
    insert(&mut response, header::LOCATION, &job_path(id));
    match submitted {
        Submitted::New(_) => {}
        Submitted::Repeated(_) => insert(&mut response, REPLAYED, "true"),
        Submitted::Equal(_) => insert(&mut response, header::CONTENT_LOCATION, &job_path(id)),
    }
    if wait.is_some() {
        preferences::applied(response.headers_mut(), granted);
    }
    Ok(response)
}

async fn submit(
    state: &HttpState,
    key: Option<IdempotencyKey>,
    body: &Value,
) -> Result<Submitted, Problem> {
    let cluster = state.jobs.cluster_state().await;
    let pace = state.jobs.pace().await;
    let describe = |job: &Job| {
        let turn = turn(job, cluster.as_ref(), &pace);
        let view = JobView::new(job.clone(), turn);
        let body = serde_json::to_string(&view.whole(Vec::new(), &BTreeMap::new()));
        body.unwrap_or_else(|error| unreachable!("a job can be written as JSON: {error}"))
    };
    let request = key.map(|key| KeyedRequest::new("POST /jobs", key, body));
    let submitted = state.jobs.submit(body, request.as_ref(), &describe);
    Ok(submitted.await?)
}

/// The answer to a submission whose job is not over.
fn accepted(reply: &Reply) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::RETRY_AFTER, POLL_SECONDS),
    ];
    let body = reply.body.clone();
    let mut response = (StatusCode::ACCEPTED, headers, body).into_response();
    let tag = job_tag(reply.version, reply.created_at);
    insert(&mut response, header::ETAG, &tag);
    response
}

/// List jobs
///
/// Newest first. A page does not move when jobs are added.
#[utoipa::path(
    get, path = "/jobs", tag = "jobs",
    params(
        ("status" = Option<String>, Query, description = "One or several of queued, running, succeeded, failed, pausing, paused, cancelling, cancelled; separated by commas", example = "queued,running"),
        ("type" = Option<String>, Query, description = "prune, evaluate, or both separated by a comma", example = "evaluate"),
        ("model" = Option<String>, Query, description = "The model's id"),
        ("method" = Option<String>, Query, description = "A method by its name; no job of the type evaluate has one"),
        ("submitter" = Option<String>, Query, description = "The submitter; empty for jobs without one"),
        ("name" = Option<String>, Query, description = "The whole name"),
        ("name_prefix" = Option<String>, Query, description = "How the name begins"),
        ("metadata" = Option<BTreeMap<String, String>>, Query, style = DeepObject, explode, description = "`metadata[KEY]=VALUE`: a pair that the job's metadata has; of several all. No key with square brackets can be asked for"),
        ("created_after" = Option<String>, Query, description = "RFC 3339; this time or later"),
        ("created_before" = Option<String>, Query, description = "RFC 3339; before this time"),
        ("limit" = Option<u32>, Query, description = "Length of the page", minimum = 1, maximum = 100),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
    ),
    responses(
        (status = 200, description = "A page", body = ListView),
        (status = 400, description = "`invalid_request`"),
    )
)]
pub(super) async fn list_jobs(
    State(state): State<HttpState>,
    mut parameters: Parameters,
) -> Result<Json<ListView>, Problem> {
    let filter = JobFilter {
        states: parameters.take_with("status", list).unwrap_or_default(),
        types: parameters.take_with("type", list).unwrap_or_default(),
        model: parameters.take("model"),
        method: parameters
            .take::<PruningMethod>("method")
            .map(|method| method.to_string()),
        submitter: parameters.take("submitter"),
        name: parameters.take("name"),
        name_prefix: parameters.take("name_prefix"),
        metadata: parameters.take_map("metadata", limits::METADATA_PAIRS),
        created_after: parameters.take("created_after"),
        created_before: parameters.take("created_before"),
    };
    let limit = parameters.limit(DEFAULT_LIMIT, MAX_LIMIT);
    let cursor = parameters.take("cursor");
    parameters.finish()?;

    let page = state.jobs.list(&filter, cursor, limit).await?;
    let counts = state.jobs.counts().await?;
    let cluster = state.jobs.cluster_state_of(&page.jobs).await;
    let places = state.jobs.places(&page.jobs).await;
    let view = |job: Job| {
        let turn = turn(&job, cluster.as_ref(), &places);
        let retained = state.jobs.retain_until(&job);
        JobView::new(job, turn).retained(retained)
    };
    Ok(Json(ListView {
        object: "list",
        data: page.jobs.into_iter().map(view).collect(),
        has_more: page.next.is_some(),
        next_cursor: page.next.map(|id| id.to_string()),
        counts,
    }))
}

/// Words separated by commas.
fn list<T: FromStr<Err = String>>(text: &str) -> Result<Vec<T>, String> {
    text.split(',').map(str::parse).collect()
}

/// Get a job
///
/// Answers 304 while nothing changed, unless the job is queued: its place may have. `Retry-After` says when to ask again; a job that is over has none.
#[utoipa::path(
    get, path = "/jobs/{id}", tag = "jobs",
    params(
        ("id" = String, Path, description = "The job"),
        ("If-None-Match" = Option<String>, Header, description = "`ETag` of the last answer"),
        ("Prefer" = Option<String>, Header, description = "`wait=SECONDS`, at most 60: answer when the job is over or, with `If-None-Match`, is of another version", example = "wait=30"),
    ),
    responses(
        (status = 200, description = "The job", body = JobView, headers(
            ("ETag" = String, description = "Changes with everything about the job but its place in the queue; `If-Match` takes it and overlooks progress"),
            ("Retry-After" = u32, description = "Seconds; while it is not over"),
            ("Preference-Applied" = String, description = "`wait=SECONDS`, if it was requested"),
        )),
        (status = 304, description = "Nothing changed"),
        (status = 404, description = "`job_not_found`"),
    )
)]
pub(super) async fn get_job(
    _: NoParameters,
    State(state): State<HttpState>,
    JobPath(id): JobPath,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let is_seen = |job: &Job| is_unchanged(&headers, &job_tag(job.version, job.updated_at));
    let mut granted = None;
    if let Some(wait) = preferences::wait(&headers) {
        let has_seen_one = headers.contains_key(header::IF_NONE_MATCH);
        let job = state.jobs.get(id).await?;
        // Progress alone is nothing to wake a client for.
        let is_as_wanted = |job: &Job| {
            let is_new = has_seen_one && !has_seen_version(&headers, job.version);
            job.state.is_terminal() || is_new
        };
        granted = Some(waiting::hold(&state, job, wait, is_as_wanted).await);
    }
    let (job, attempts) = state.jobs.get_with_attempts(id).await?;
    // Of a queued job the answer also tells what others do: its place, and why it waits.
    let mut response = if is_seen(&job) && job.state != JobState::Queued {
        let mut response = StatusCode::NOT_MODIFIED.into_response();
        describe(&mut response, &job);
        response
    } else {
        whole_job(&state, job, attempts).await
    };
    if let Some(granted) = granted {
        preferences::applied(response.headers_mut(), granted);
    }
    Ok(response)
}

pub(super) async fn whole_job(state: &HttpState, job: Job, attempts: Vec<Attempt>) -> Response {
    let mut response = StatusCode::OK.into_response();
    describe(&mut response, &job);
    let only = std::slice::from_ref(&job);
    let cluster = state.jobs.cluster_state_of(only).await;
    let places = state.jobs.places(only).await;
    let seconds = state.jobs.phase_seconds(&job).await;
    let turn = turn(&job, cluster.as_ref(), &places);
    let retained = state.jobs.retain_until(&job);
    let view = JobView::new(job, turn).retained(retained);
    let body = Json(view.whole(attempts, &seconds)).into_response();
    let (body_parts, body) = body.into_parts();
    response.headers_mut().extend(body_parts.headers);
    *response.body_mut() = body;
    response
}

fn turn(job: &Job, cluster: Option<&ClusterState>, places: &Places) -> TurnView {
    match cluster {
        Some(cluster) => TurnView::waiting(job, cluster, places),
        None => TurnView::new(job),
    }
}

fn describe(response: &mut Response, job: &Job) {
    let tag = job_tag(job.version, job.updated_at);
    insert(response, header::ETAG, &tag);
    if !job.state.is_terminal() {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, POLL_HINT);
    }
}

/// For values made of what headers may hold.
fn insert(response: &mut Response, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}
