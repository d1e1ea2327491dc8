//! The scheduling part of a job.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use crate::domain::job::Job;
use crate::domain::job::scheduling::DeviceKind;
use crate::domain::queue::{WaitReason, Waiting};

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
    /// What it needs of a worker.
    resources: ResourcesView,
    /// Why it waits; `null` unless it is queued. Changes without a new version.
    status_reason: Option<WaitReason>,
    /// What would help, where that can be said.
    status_detail: Option<String>,
    /// Its place by priority and age, 1 for the first; `null` unless it is queued, in lists, and right after submission.
    queue_position: Option<u64>,
}

/// What a job needs of a worker.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = JobResources)]
struct ResourcesView {
    /// The kind of device; `null` = any.
    device: Option<DeviceKind>,
    /// Bytes of memory that it is thought to need; `null` = not known, it fits every worker.
    memory_bytes: Option<u64>,
    /// Bytes of disk that it is thought to need; `null` = not known, it fits every worker.
    disk_bytes: Option<u64>,
}

impl TurnView {
    pub(in crate::http) fn new(job: &Job) -> Self {
        Self {
            priority: job.scheduling.priority,
            submitter: job.scheduling.submitter.clone(),
            run_after: (job.run_after > job.created_at).then_some(job.run_after),
            resources: ResourcesView {
                device: job.scheduling.device_kind,
                memory_bytes: job.scheduling.memory_bytes,
                disk_bytes: job.scheduling.disk_bytes,
            },
            status_reason: None,
            status_detail: None,
            queue_position: None,
        }
    }

    pub(in crate::http) fn waiting(self, waiting: Option<Waiting>, position: Option<u64>) -> Self {
        let (reason, detail) = waiting
            .map(|waiting| (waiting.reason, waiting.detail))
            .unzip();
        Self {
            status_reason: reason,
            status_detail: detail.flatten(),
            queue_position: position,
            ..self
        }
    }
}

/// The fields of a job that was just accepted.
pub(in crate::http) fn example() -> [(&'static str, Value); 7] {
    [
        ("priority", json!(0)),
        ("submitter", json!("")),
        ("run_after", Value::Null),
        (
            "resources",
            json!({"device": null, "memory_bytes": null, "disk_bytes": null}),
        ),
        ("status_reason", json!("waiting_for_worker")),
        ("status_detail", Value::Null),
        ("queue_position", Value::Null),
    ]
}
