//! The scheduling part of a job.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use crate::domain::job::Job;
use crate::domain::job::scheduling::DeviceKind;
use crate::domain::queue::places::Places;
use crate::domain::queue::{ClusterState, WaitReason};

/// The scheduling of a job: when it may run, and why it waits.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = JobTurn)]
pub(in crate::http) struct TurnView {
    /// Higher ones are claimed first.
    priority: i32,
    /// The submitter: submitters share the workers evenly. Empty for jobs without one.
    submitter: String,
    /// It does not start earlier; `null` = at once.
    #[schema(value_type = Option<String>, format = DateTime)]
    run_after: Option<Timestamp>,
    /// What it asks for of a worker.
    resources: ResourcesView,
    /// What it is thought to need.
    estimate: EstimateView,
    /// Why it waits; `null` unless it is queued. Changes without a new version.
    status_reason: Option<WaitReason>,
    /// What would help, where that can be said.
    status_detail: Option<String>,
    /// Its place by priority and age, 1 for the first; `null` unless it is queued, and right after submission.
    queue_position: Option<u64>,
    /// When it may start if jobs take as long as the last ones did; `null` while that cannot be said.
    #[schema(value_type = Option<String>, format = DateTime)]
    estimated_start_at: Option<Timestamp>,
}

/// What a job asks for of a worker.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = JobResources)]
pub(in crate::http) struct ResourcesView {
    /// The kind of device; `null` = any.
    pub(in crate::http) device: Option<DeviceKind>,
}

/// What a job is thought to need.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = JobEstimate)]
struct EstimateView {
    /// Bytes of memory; `null` = not known, it fits every worker.
    memory_bytes: Option<u64>,
    /// Bytes of disk; `null` = not known, or nothing was missing in its last attempt: it fits every worker.
    disk_bytes: Option<u64>,
    /// Seconds that it may run, as fast as the last jobs of about its size; `null` = not known, or it does not wait.
    seconds: Option<u64>,
}

impl EstimateView {
    fn new(job: &Job) -> Self {
        Self {
            memory_bytes: job.scheduling.memory_bytes,
            disk_bytes: job.scheduling.disk_bytes,
            seconds: None,
        }
    }
}

impl TurnView {
    pub(in crate::http) fn new(job: &Job) -> Self {
        Self {
            priority: job.scheduling.priority,
            submitter: job.scheduling.submitter.clone(),
            run_after: (job.run_after > job.created_at).then_some(job.run_after),
            resources: ResourcesView {
                device: job.scheduling.device_kind,
            },
            estimate: EstimateView::new(job),
            status_reason: None,
            status_detail: None,
            queue_position: None,
            estimated_start_at: None,
        }
    }

    /// With what the job waits for, if it does, and where.
    pub(in crate::http) fn waiting(job: &Job, cluster: &ClusterState, places: &Places) -> Self {
        let waiting = cluster.why_waits(job);
        let (reason, detail) = waiting
            .map(|waiting| (waiting.reason, waiting.detail))
            .unzip();
        Self {
            status_reason: reason,
            status_detail: detail.flatten(),
            queue_position: places.positions.get(&job.id).copied(),
            estimated_start_at: places.expected_start(job, cluster),
            estimate: EstimateView {
                seconds: places.expected_run(job).map(|run| run.as_secs()),
                ..EstimateView::new(job)
            },
            ..Self::new(job)
        }
    }
}

/// The fields of a job that was just accepted.
pub(in crate::http) fn example() -> [(&'static str, Value); 9] {
    [
        ("priority", json!(0)),
        ("submitter", json!("")),
        ("run_after", Value::Null),
        ("resources", json!({"device": null})),
        (
            "estimate",
            json!({"memory_bytes": null, "disk_bytes": null, "seconds": null}),
        ),
        ("status_reason", json!("waiting_for_worker")),
        ("status_detail", Value::Null),
        ("queue_position", Value::Null),
        ("estimated_start_at", Value::Null),
    ]
}
