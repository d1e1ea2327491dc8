//! A job as clients see it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use super::progress::{self, ProgressView};
use super::results::ResultsView;
use super::turn::{self, TurnView};
use crate::corpora::{C4, WIKITEXT2};
use crate::domain::JobId;
use crate::domain::job::Cancellation;
use crate::domain::job::Job;
use crate::domain::job::Metadata;
use crate::domain::job::event::Attempt;
use crate::domain::job::failure::JobError;
use crate::domain::job::progress::Phase;
use crate::domain::job::state::JobState;
use crate::domain::report::results::Warning;
use crate::domain::spec::{BosRule, GenerationRule, Guard, JobSpec, PinnedCommit, StoredSpec};
use crate::engine::{AllocationSpec, MethodId, Pattern, Propagation};

/// A job.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Job, examples(example_job))]
pub(in crate::http) struct JobView {
    /// Sorts by the time of creation.
    id: String,
    /// `prune.job` or `evaluate.job`.
    object: String,
    /// The submitter's name for it.
    name: Option<String>,
    /// The submitter's key-value pairs.
    #[schema(inline)]
    metadata: Metadata,
    /// Where it is in its life.
    status: JobState,
    /// What the running attempt does, or what the failed one did last.
    phase: Option<Phase>,
    /// How far the job is.
    progress: ProgressView,
    /// What to do, every default filled in.
    #[serde(flatten)]
    #[schema(value_type = JobSpec)]
    spec: StoredSpec,
    /// The commits that the revisions of its hub models stand for in every attempt; empty until they are known.
    commits: Vec<PinnedCommit>,
    /// Its scheduling: when it may run, and why it waits.
    #[serde(flatten)]
    turn: TurnView,
    /// Number of times a worker took the job; never goes back.
    attempt: u32,
    /// Attempts that may fail before the job does.
    max_attempts: u32,
    /// Attempts that did.
    failed_attempts: u32,
    /// How many of those ended without a word of their own.
    crash_count: u32,
    /// When the next attempt may begin, for a job that is queued again.
    #[schema(value_type = Option<String>, format = DateTime)]
    retry_at: Option<Timestamp>,
    /// Time after its acceptance, or its last retry, at which it fails unless it is over.
    deadline_seconds: Option<u64>,
    /// When that is.
    #[schema(value_type = Option<String>, format = DateTime)]
    deadline_at: Option<Timestamp>,
    /// The worker that holds it.
    worker_id: Option<String>,
    /// Why it failed, or why it is queued again.
    error: Option<JobError>,
    /// Who asked to cancel it; `null` unless somebody did since it was last queued.
    cancel: Option<Cancellation>,
    /// Its results; `null` until it has succeeded.
    results: Option<ResultsView>,
    /// Warnings of the collapse guard: the job succeeded, but its model is probably unusable.
    warnings: Vec<Warning>,
    /// When it was accepted.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When a worker took it first.
    #[schema(value_type = Option<String>, format = DateTime)]
    started_at: Option<Timestamp>,
    /// When it ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    finished_at: Option<Timestamp>,
    /// Whether it stays when its retention is over.
    kept: bool,
    /// When it will be deleted; `null` while it is not over, and for one that is kept.
    #[schema(value_type = Option<String>, format = DateTime)]
    retain_until: Option<Timestamp>,
    /// When anything above changed last.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
    /// Grows with every change but progress.
    version: u64,
    /// Its attempts, the newest 50; not in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    attempts: Option<Vec<Attempt>>,
    /// Where to go from here.
    links: Links,
}

/// Paths of a job's parts.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = JobLinks)]
struct Links {
    #[serde(rename = "self")]
    itself: String,
    cancel: String,
    pause: String,
    resume: String,
    retry: String,
    events: String,
    stream: String,
    results: String,
    report: String,
    artifacts: String,
}

/// A page of jobs.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = JobList)]
pub(in crate::http) struct ListView {
    /// Always `list`.
    pub(in crate::http) object: &'static str,
    /// Newest first.
    pub(in crate::http) data: Vec<JobView>,
    /// Whether there is a next page.
    pub(in crate::http) has_more: bool,
    /// Pass it as `cursor` to get the next page.
    pub(in crate::http) next_cursor: Option<String>,
    /// Number of jobs per status, regardless of the filters.
    pub(in crate::http) counts: BTreeMap<JobState, u64>,
}

/// Path of a job.
pub(in crate::http) fn job_path(id: JobId) -> String {
    format!("/v1/jobs/{id}")
}

impl JobView {
    pub(in crate::http) fn new(job: Job, turn: TurnView) -> Self {
        let path = job_path(job.id);
        let progress = ProgressView::new(&job);
        let is_waiting_to_retry = job.state == JobState::Queued && job.error.is_some();
        Self {
            id: job.id.to_string(),
            object: format!("{}.job", job.spec.job_type()),
            name: job.name,
            metadata: job.metadata,
            status: job.state,
            phase: job.phase,
            progress,
            commits: job.commits,
            turn,
            attempt: job.attempt,
            max_attempts: job.max_attempts,
            failed_attempts: job.failed_attempts,
            crash_count: job.crash_count,
            retry_at: is_waiting_to_retry.then_some(job.run_after),
            deadline_seconds: job.scheduling.deadline_after.map(|after| after.as_secs()),
            deadline_at: job.scheduling.deadline_at,
            worker_id: job.lease_owner,
            error: job.error,
            cancel: job.cancellation,
            warnings: job
                .outcome
                .as_ref()
                .map_or_else(Vec::new, |outcome| outcome.warnings.clone()),
            results: job
                .outcome
                .zip(job.spec.known())
                .map(|(outcome, spec)| ResultsView::short(outcome, spec)),
            spec: job.spec,
            created_at: job.created_at,
            started_at: job.started_at,
            finished_at: job.finished_at,
            kept: job.kept,
            retain_until: None,
            updated_at: job.updated_at,
            version: job.version,
            attempts: None,
            links: Links::new(path),
        }
    }

    pub(in crate::http) fn retained(self, until: Option<Timestamp>) -> Self {
        Self {
            retain_until: until,
            ..self
        }
    }

    /// With its attempts, and the seconds of each phase of the last one.
    pub(in crate::http) fn whole(
        self,
        attempts: Vec<Attempt>,
        seconds: &BTreeMap<Phase, f64>,
    ) -> Self {
        Self {
            attempts: Some(attempts),
            progress: self.progress.timed(seconds),
            ..self
        }
    }
}

impl Links {
    fn new(path: String) -> Self {
        Self {
            cancel: format!("{path}/cancel"),
            pause: format!("{path}/pause"),
            resume: format!("{path}/resume"),
            retry: format!("{path}/retry"),
            events: format!("{path}/events"),
            stream: format!("{path}/events/stream"),
            results: format!("{path}/results"),
            report: format!("{path}/report"),
            artifacts: format!("{path}/artifacts"),
            itself: path,
        }
    }
}

/// A job that was just accepted.
fn example_job() -> serde_json::Value {
    let links = serde_json::json!({
        "self": "/v1/jobs/job_019abcde0123789a8bcdef0123456789",
        "cancel": "/v1/jobs/job_019abcde0123789a8bcdef0123456789/cancel",
        "pause": "/v1/jobs/job_019abcde0123789a8bcdef0123456789/pause",
        "resume": "/v1/jobs/job_019abcde0123789a8bcdef0123456789/resume",
        "retry": "/v1/jobs/job_019abcde0123789a8bcdef0123456789/retry",
        "events": "/v1/jobs/job_019abcde0123789a8bcdef0123456789/events",
        "stream": "/v1/jobs/job_019abcde0123789a8bcdef0123456789/events/stream",
        "results": "/v1/jobs/job_019abcde0123789a8bcdef0123456789/results",
        "report": "/v1/jobs/job_019abcde0123789a8bcdef0123456789/report",
        "artifacts": "/v1/jobs/job_019abcde0123789a8bcdef0123456789/artifacts"
    });
    let mut job = serde_json::json!({
        "id": "job_019abcde0123789a8bcdef0123456789", "object": "prune.job", "name": null, "metadata": {},
        "status": "queued", "phase": null, "progress": progress::example(), "type": "prune",
        "model": {"source": "hub", "id": "HuggingFaceTB/SmolLM2-135M", "revision": "main"},
        "method": {"type": MethodId::default().name()}, "group": null, "refine": null, "refit": false, "propagation": Propagation::default(),
        "sparsity": 0.5, "pattern": Pattern::default().to_string(),
        "calibration": {"dataset": C4.name, "n_samples": 16, "seq_len": null, "seed": 0},
        "evaluation": {
            "perplexity": [{"dataset": WIKITEXT2.name}], "seq_len": null, "windows": null, "max_tokens": 65_536, "tasks": [],
            "limit": null, "bos": BosRule::default(), "guard": Guard::default(), "generations": GenerationRule::default(),
        },
        "commits": [], "attempt": 0, "max_attempts": 3, "failed_attempts": 0, "crash_count": 0, "retry_at": null, "deadline_seconds": null, "deadline_at": null,
        "worker_id": null, "error": null, "cancel": null, "results": null, "warnings": [],
        "created_at": "2026-11-24T11:32:24.123Z", "started_at": null, "finished_at": null, "kept": false, "retain_until": null,
        "updated_at": "2026-11-24T11:32:24.123Z", "version": 1, "attempts": [],
    });
    job["rules"] = serde_json::json!([]);
    job["allocation"] = serde_json::json!(AllocationSpec::default());
    job["links"] = links;
    for (name, value) in turn::example() {
        job[name] = value;
    }
    job
}
