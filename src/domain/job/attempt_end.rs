//! How an attempt ends, and what that makes of its job.

use std::time::Duration;

use jiff::Timestamp;

use super::Publication;
use super::event::{AttemptOutcome, EventKind};
use super::failure::JobError;
use super::state::JobState;

/// The end of an attempt.
#[derive(Debug, Clone, PartialEq)]
pub enum AttemptEnd {
    /// Its artifact is stored; recording this makes it visible.
    Succeeded(Box<Publication>),
    /// It failed, and there is no further attempt.
    Failed {
        /// The error.
        error: JobError,
        /// Whether its process ended without saying why.
        crashed: bool,
    },
    /// It failed, and another attempt follows unless a client asked for something else.
    Retry {
        /// The error.
        error: JobError,
        /// Whether its process ended without saying why.
        crashed: bool,
        /// The wait before the next attempt.
        delay: Duration,
    },
    /// It cannot go on for a reason outside of the job, which is queued again; the attempt does not count.
    Waiting {
        /// The error.
        error: JobError,
        /// The wait before the next attempt.
        delay: Duration,
        /// What it lacked.
        lacks: Lacks,
    },
    /// It was stopped to cancel the job.
    Cancelled,
    /// It was stopped to pause the job.
    Paused,
    /// Its worker was stopped: the job is queued again, and the attempt does not count.
    Released,
    /// Its lease was lost: the job is not its own any more, and nothing is recorded.
    Lost,
}

/// What an end makes of the job and of the attempt's record. Not always what was wished: a cancellation that came first
/// turns another attempt into the job's end.
#[derive(Debug, Clone, PartialEq)]
pub struct Settled {
    /// The job's next state.
    pub state: JobState,
    /// The outcome in the attempt's record.
    pub outcome: AttemptOutcome,
    /// The event in the log.
    pub event: EventKind,
    /// The job's error.
    pub error: Option<JobError>,
    /// Whether it counts against the budget of attempts.
    pub counts: bool,
    /// Whether it counts as a crash.
    pub crashed: bool,
    /// When the next attempt may begin, if that changes.
    pub run_after: Option<Timestamp>,
    /// What the job needs of a worker and this one did not have.
    pub lacks: Lacks,
}

/// What a worker had too little of, as the bytes that were needed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lacks {
    /// Of disk, beside what earlier attempts left.
    pub disk_bytes: Option<u64>,
    /// Of memory.
    pub memory_bytes: Option<u64>,
}

impl AttemptEnd {
    /// Decides where the end leads from the job's present state; `None` where nothing is recorded.
    #[expect(clippy::too_many_lines, reason = "one table, a row for each end")]
    pub fn settle(&self, state: JobState, now: Timestamp) -> Option<Settled> {
        let base = Settled {
            state: JobState::Cancelled,
            outcome: AttemptOutcome::Cancelled,
            event: EventKind::Cancelled,
            error: None,
            counts: false,
            crashed: false,
            run_after: None,
            lacks: Lacks::default(),
        };
        Some(match self {
            Self::Lost => return None,
            Self::Succeeded(publication) => Settled {
                state: JobState::Succeeded,
                outcome: AttemptOutcome::Succeeded,
                event: EventKind::Succeeded {
                    digest: publication.report.digest().map(str::to_owned),
                },
                ..base
            },
            Self::Cancelled => base,
            // A process that dies while it is being cancelled has stopped.
            Self::Retry { .. }
            | Self::Waiting { .. }
            | Self::Released
            | Self::Paused
            | Self::Failed { crashed: true, .. }
                if state == JobState::Cancelling =>
            {
                base
            }
            Self::Failed { error, crashed } => Settled {
                state: JobState::Failed,
                outcome: failure(*crashed),
                event: EventKind::Failed {
                    error: error.clone(),
                },
                error: Some(error.clone()),
                counts: true,
                crashed: *crashed,
                ..base
            },
            Self::Paused => Settled {
                state: JobState::Paused,
                outcome: AttemptOutcome::Paused,
                event: EventKind::Paused,
                ..base
            },
            // One that fails while it is pausing waits; its next attempt begins when the job is resumed.
            Self::Retry { error, crashed, .. } if state == JobState::Pausing => Settled {
                state: JobState::Paused,
                outcome: failure(*crashed),
                event: EventKind::Paused,
                error: Some(error.clone()),
                counts: true,
                crashed: *crashed,
                ..base
            },
            Self::Waiting { error, lacks, .. } if state == JobState::Pausing => Settled {
                state: JobState::Paused,
                outcome: AttemptOutcome::Failed,
                event: EventKind::Paused,
                error: Some(error.clone()),
                lacks: *lacks,
                ..base
            },
            Self::Waiting {
                error,
                delay,
                lacks,
            } => Settled {
                state: JobState::Queued,
                outcome: AttemptOutcome::Failed,
                event: EventKind::Retrying {
                    error: error.clone(),
                    run_after: now + *delay,
                },
                error: Some(error.clone()),
                run_after: Some(now + *delay),
                lacks: *lacks,
                ..base
            },
            Self::Released if state == JobState::Pausing => Settled {
                state: JobState::Paused,
                outcome: AttemptOutcome::Released,
                event: EventKind::Paused,
                ..base
            },
            Self::Retry {
                error,
                crashed,
                delay,
            } => Settled {
                state: JobState::Queued,
                outcome: failure(*crashed),
                event: EventKind::Retrying {
                    error: error.clone(),
                    run_after: now + *delay,
                },
                error: Some(error.clone()),
                counts: true,
                crashed: *crashed,
                run_after: Some(now + *delay),
                ..base
            },
            Self::Released => Settled {
                state: JobState::Queued,
                outcome: AttemptOutcome::Released,
                event: EventKind::Released,
                ..base
            },
        })
    }
}

fn failure(crashed: bool) -> AttemptOutcome {
    if crashed {
        AttemptOutcome::Crashed
    } else {
        AttemptOutcome::Failed
    }
}
