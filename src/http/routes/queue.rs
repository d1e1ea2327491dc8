//! `/v1/queue`.

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::Serialize;

use crate::domain::queue::{ClusterState, QueueContent, WaitReason};
use crate::http::HttpState;
use crate::http::input::query::NoParameters;
use crate::http::output::problem::Problem;

/// The queue: what waits, and why.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Queue)]
pub(super) struct QueueView {
    /// Always `queue`.
    object: &'static str,
    /// Whether the queue is paused: no job is claimed.
    paused: bool,
    /// When that changed last; `null` = never.
    #[schema(value_type = Option<String>, format = DateTime)]
    changed_at: Option<Timestamp>,
    /// Queued jobs that may start.
    ready: u64,
    /// Queued jobs that may not start yet: later by their submitter's wish, or after a failed attempt.
    delayed: u64,
    /// Jobs that a worker holds.
    running: u64,
    /// How long the job has waited that could have started longest ago; `null` where none could.
    oldest_age_seconds: Option<f64>,
    /// Those with the most queued jobs first, 100 at most.
    submitters: Vec<SubmitterView>,
    /// Queued jobs by the reason why they wait, the most frequent first.
    waiting: Vec<WaitingView>,
}

/// What a submitter has in the queue.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = SubmitterLoad)]
struct SubmitterView {
    /// The `submitter` of its jobs; empty for those that name none.
    submitter: String,
    /// Its queued jobs.
    queued: u64,
    /// Its jobs that a worker holds.
    running: u64,
}

/// Queued jobs that wait for the same reason.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = WaitingJobs)]
struct WaitingView {
    /// As `status_reason` of the jobs.
    reason: WaitReason,
    /// As `status_detail` of the jobs.
    detail: Option<String>,
    /// How many they are.
    jobs: u64,
}

impl QueueView {
    fn new(cluster: &ClusterState, content: QueueContent) -> Self {
        let (ready, delayed) = content.ready_and_delayed();
        let waiting = cluster.waiting(&content.groups).into_iter();
        Self {
            object: "queue",
            paused: cluster.paused,
            changed_at: cluster.changed_at,
            ready,
            delayed,
            running: content.running,
            oldest_age_seconds: content.oldest_age_seconds(cluster.now),
            waiting: waiting
                .map(|(waiting, jobs)| WaitingView {
                    reason: waiting.reason,
                    detail: waiting.detail,
                    jobs,
                })
                .collect(),
            submitters: content
                .submitters
                .into_iter()
                .map(|load| SubmitterView {
                    submitter: load.submitter,
                    queued: load.queued,
                    running: load.running,
                })
                .collect(),
        }
    }
}

/// Get the queue
#[utoipa::path(
    get, path = "/queue", tag = "workers",
    responses((status = 200, description = "The queue: what waits, and why", body = QueueView))
)]
pub(super) async fn get_queue(
    _: NoParameters,
    State(state): State<HttpState>,
) -> Result<Json<QueueView>, Problem> {
    let (cluster, content) = state.jobs.queue().await?;
    Ok(Json(QueueView::new(&cluster, content)))
}

/// Pause the queue
///
/// No worker claims a job from the moment of this answer; what runs goes on. Repeating it is harmless.
#[utoipa::path(
    post, path = "/queue/pause", tag = "workers",
    responses(
        (status = 200, description = "The queue", body = QueueView),
        (status = 403, description = "`cross_origin`"),
    )
)]
pub(super) async fn pause_queue(
    _: NoParameters,
    State(state): State<HttpState>,
) -> Result<Json<QueueView>, Problem> {
    let (cluster, content) = state.jobs.set_paused(true).await?;
    Ok(Json(QueueView::new(&cluster, content)))
}

/// Resume the queue
///
/// Repeating it is harmless.
#[utoipa::path(
    post, path = "/queue/resume", tag = "workers",
    responses(
        (status = 200, description = "The queue", body = QueueView),
        (status = 403, description = "`cross_origin`"),
    )
)]
pub(super) async fn resume_queue(
    _: NoParameters,
    State(state): State<HttpState>,
) -> Result<Json<QueueView>, Problem> {
    let (cluster, content) = state.jobs.set_paused(false).await?;
    Ok(Json(QueueView::new(&cluster, content)))
}
