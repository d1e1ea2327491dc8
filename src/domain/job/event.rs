//! What happened to a job: its attempts and its log.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::failure::JobError;
use super::progress::Phase;
use super::state::JobState;
use crate::domain::JobId;

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AttemptOutcome {
    /// Its artifact is the job's.
    Succeeded,
    /// It said why.
    Failed,
    /// It ended, or its worker did, without a word.
    Crashed,
    /// The job was cancelled.
    Cancelled,
    /// Its worker was stopped and gave it back.
    Released,
    /// The job was paused.
    Paused,
}

impl AttemptOutcome {
    /// The word on the wire and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Crashed => "crashed",
            Self::Cancelled => "cancelled",
            Self::Released => "released",
            Self::Paused => "paused",
        }
    }
}

/// The record of one attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Attempt {
    /// 1 for the first.
    pub attempt: u32,
    /// The worker that ran it.
    pub worker_id: String,
    /// The machine of that worker; `null` for attempts of earlier versions.
    pub host: Option<String>,
    /// The device it ran on.
    pub device: String,
    /// When it was claimed.
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Timestamp,
    /// When it ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Timestamp>,
    /// How it ended; `null` while it runs.
    pub outcome: Option<AttemptOutcome>,
    /// Why it failed.
    pub error: Option<JobError>,
    /// The last lines that it wrote to its log, where it failed.
    pub log_tail: Option<String>,
}

/// One entry of a job's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Event {
    /// 1 for the first of this job, without gaps.
    pub seq: u64,
    /// When it happened.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// The attempt it belongs to; 0 before the first.
    pub attempt: u32,
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// An event of any job, with its place among those of all jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Numbered {
    /// Grows in the order in which events became visible. Numbers of deleted jobs' events are missing.
    pub number: u64,
    /// The job.
    pub job_id: JobId,
    /// What happened to it; `None` where that cannot be read, perhaps because a newer version wrote it.
    pub event: Option<Event>,
}

/// What happened to a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum EventKind {
    /// It was accepted.
    Queued,
    /// A worker claimed it.
    Started {
        /// Which one.
        worker_id: String,
        /// On which device.
        device: String,
    },
    /// A phase began.
    Phase {
        /// Which one.
        phase: Phase,
    },
    /// The attempt goes on from a resume state.
    Resumed {
        /// The first block that is pruned again.
        block: usize,
        /// Number of blocks.
        blocks: usize,
    },
    /// The attempt failed, and the job is queued again.
    Retrying {
        /// Why.
        error: JobError,
        /// Not before.
        #[schema(value_type = String, format = DateTime)]
        run_after: Timestamp,
    },
    /// The worker was stopped; the job is queued again and the attempt does not count.
    Released,
    /// Somebody asked to pause it while it ran.
    Pausing,
    /// It waits until somebody resumes it.
    Paused,
    /// It is queued again, and goes on where it was.
    Continued,
    /// It is queued again after it had ended, with a fresh budget of attempts.
    Retried,
    /// Somebody asked to cancel it while it ran.
    Cancelling,
    /// The end: its artifact is there.
    Succeeded {
        /// The manifest's digest; `null` where no weights were written.
        digest: Option<String>,
    },
    /// The end: it failed.
    Failed {
        /// Why.
        error: JobError,
    },
    /// The end: it was cancelled.
    Cancelled,
    /// It was deleted, and its log with it: in the stream of all jobs alone.
    Deleted {
        /// Bytes of its artifact.
        #[serde(default)]
        #[schema(required)]
        freed_bytes: u64,
    },
}

impl EventKind {
    /// Whether the attempt that it belongs to is over with it.
    pub fn ends_attempt(&self) -> bool {
        match self {
            Self::Retrying { .. }
            | Self::Released
            | Self::Paused
            | Self::Succeeded { .. }
            | Self::Failed { .. }
            | Self::Cancelled => true,
            Self::Queued
            | Self::Started { .. }
            | Self::Phase { .. }
            | Self::Resumed { .. }
            | Self::Pausing
            | Self::Continued
            | Self::Retried
            | Self::Cancelling
            | Self::Deleted { .. } => false,
        }
    }

    /// The state of a job that is over with this, unless somebody has it tried again.
    pub fn final_state(&self) -> Option<JobState> {
        match self {
            Self::Succeeded { .. } => Some(JobState::Succeeded),
            Self::Failed { .. } => Some(JobState::Failed),
            Self::Cancelled => Some(JobState::Cancelled),
            Self::Queued
            | Self::Started { .. }
            | Self::Phase { .. }
            | Self::Resumed { .. }
            | Self::Retrying { .. }
            | Self::Released
            | Self::Pausing
            | Self::Paused
            | Self::Continued
            | Self::Retried
            | Self::Cancelling
            | Self::Deleted { .. } => None,
        }
    }
}
