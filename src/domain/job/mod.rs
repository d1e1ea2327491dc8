//! A job, and what it brought.

pub mod attempt_end;
pub mod event;
pub mod failure;
pub mod phases;
pub mod progress;
pub mod retry;
pub mod scheduling;
pub mod state;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use self::failure::JobError;
use self::progress::{Phase, Progress};
use self::scheduling::Scheduling;
use self::state::JobState;
use super::id::JobId;
use super::report::manifest::{FileEntry, JobReport, Sparsity};
use super::report::results::{MeanResult, PerplexityResult, TaskResult, Warning};
use super::spec::{JobSpec, JobType, PinnedCommit, SPEC_VERSION, StoredSpec};

/// How many attempts may fail before their job does.
pub const MAX_ATTEMPTS: u32 = 3;

/// The short form of what a succeeded job brought.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The manifest's digest over the weight files; `None` where none were written.
    pub digest: Option<String>,
    /// Requested and achieved; `None` where nothing was pruned.
    pub sparsity: Option<Sparsity>,
    /// Before and after, per text.
    pub perplexity: Vec<PerplexityResult>,
    /// Before and after, per task, without the parts that a task has.
    #[serde(default)]
    pub tasks: Vec<TaskResult>,
    /// Over the tasks.
    #[serde(default)]
    pub mean: Option<MeanResult>,
    /// Warnings of the collapse guard.
    #[serde(default)]
    pub warnings: Vec<Warning>,
    /// Number of files of the artifact.
    pub file_count: usize,
    /// Bytes of all of them.
    pub size_bytes: u64,
}

/// What a succeeded attempt leaves: written once, in the transaction that makes the job succeed.
#[derive(Debug, Clone, PartialEq)]
pub struct Publication {
    /// The attempt under whose prefix the files lie.
    pub attempt: u32,
    /// What was done and measured.
    pub report: JobReport,
    /// Every file of the artifact, the report included.
    pub files: Vec<FileEntry>,
}

impl Publication {
    /// The short form that is kept with the job.
    pub fn outcome(&self) -> Outcome {
        let results = self.report.results();
        let without_subjects = |task: &TaskResult| TaskResult {
            subjects: Vec::new(),
            ..task.clone()
        };
        Outcome {
            digest: self.report.digest().map(str::to_owned),
            sparsity: self.report.sparsity(),
            perplexity: results.perplexity.clone(),
            tasks: results.tasks.iter().map(without_subjects).collect(),
            mean: results.mean.clone(),
            warnings: results.warnings.clone(),
            file_count: self.files.len(),
            size_bytes: self.size_bytes(),
        }
    }

    /// Bytes of all files.
    pub fn size_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size_bytes).sum()
    }
}

/// One job, as the database has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// The submitter's name for it.
    pub name: Option<String>,
    /// The submitter's key-value pairs.
    pub metadata: Metadata,
    /// What to do.
    pub spec: StoredSpec,
    /// The version of the form that the spec is stored in.
    pub spec_version: u32,
    /// Where it is in its life.
    pub state: JobState,
    /// What the running attempt does, or what the failed one did last.
    pub phase: Option<Phase>,
    /// How far it is; kept from attempt to attempt.
    pub progress: Option<Progress>,
    /// Number of claims so far. It never goes back: together with the owner it is the fencing token of the lease.
    pub attempt: u32,
    /// Attempts that count against [`Job::max_attempts`]; those given back at a graceful stop do not.
    pub failed_attempts: u32,
    /// How many of those ended without a word of their own.
    pub crash_count: u32,
    /// [`MAX_ATTEMPTS`] when it was submitted.
    pub max_attempts: u32,
    /// Not to be claimed earlier.
    pub run_after: Timestamp,
    /// The commits of its hub models, once they are known.
    pub commits: Vec<PinnedCommit>,
    /// What tells it from jobs that do other work; `None` where a commit was not known at submission.
    pub fingerprint: Option<String>,
    /// What else the queue goes by.
    pub scheduling: Scheduling,
    /// When it came into the queue last.
    pub queued_at: Timestamp,
    /// The span of the request that submitted it, as W3C Trace Context writes it.
    pub traceparent: Option<String>,
    /// The worker that holds it.
    pub lease_owner: Option<String>,
    /// When the lease ends unless it is renewed.
    pub lease_expires_at: Option<Timestamp>,
    /// Why it failed, or why it is queued again.
    pub error: Option<JobError>,
    /// Who asked to cancel it; gone when it is tried again.
    pub cancellation: Option<Cancellation>,
    /// What it brought.
    pub outcome: Option<Outcome>,
    /// Whether it stays when the time after which finished jobs are deleted is over.
    pub kept: bool,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When it was claimed first.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// When anything but the lease changed last.
    pub updated_at: Timestamp,
    /// Grows with every such change but progress, which changes nothing that can be asked of the job.
    pub version: u64,
}

impl Job {
    /// A job that was accepted now.
    pub fn new(id: JobId, spec: JobSpec, now: Timestamp) -> Self {
        Self {
            id,
            name: None,
            metadata: Metadata::new(),
            spec: StoredSpec::Known(spec),
            spec_version: SPEC_VERSION,
            state: JobState::Queued,
            phase: None,
            progress: None,
            attempt: 0,
            failed_attempts: 0,
            crash_count: 0,
            max_attempts: MAX_ATTEMPTS,
            run_after: now,
            commits: Vec::new(),
            fingerprint: None,
            scheduling: Scheduling::default(),
            queued_at: now,
            traceparent: None,
            lease_owner: None,
            lease_expires_at: None,
            error: None,
            cancellation: None,
            outcome: None,
            kept: false,
            created_at: now,
            started_at: None,
            finished_at: None,
            updated_at: now,
            version: 1,
        }
    }

    /// The same job, accepted at this time, whatever the clock says by which it was made.
    #[must_use]
    pub fn accepted_at(self, now: Timestamp) -> Self {
        let is_delayed = self.run_after > self.created_at;
        Self {
            run_after: if is_delayed { self.run_after } else { now },
            scheduling: self.scheduling.begun_at(now),
            queued_at: now,
            created_at: now,
            updated_at: now,
            ..self
        }
    }
}

/// A request to cancel a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Cancellation {
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub requested_at: Timestamp,
    /// Who made it, by its own word.
    pub by: Option<String>,
    /// Why, by its own word.
    pub reason: Option<String>,
}

/// Which jobs to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobFilter {
    /// In one of these states; empty = any.
    pub states: Vec<JobState>,
    /// Of one of these types; empty = any.
    pub types: Vec<JobType>,
    /// Of this model.
    pub model: Option<String>,
    /// By this method.
    pub method: Option<String>,
    /// Of this submitter.
    pub submitter: Option<String>,
    /// Of this name.
    pub name: Option<String>,
    /// Of a name that begins so.
    pub name_prefix: Option<String>,
    /// With all of these pairs in their metadata.
    pub metadata: Metadata,
    /// Accepted at this time or later.
    pub created_after: Option<Timestamp>,
    /// Accepted before this time.
    pub created_before: Option<Timestamp>,
}

/// Free key-value pairs of the submitter, kept as they came.
pub type Metadata = BTreeMap<String, String>;
