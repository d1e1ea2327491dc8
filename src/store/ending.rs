//! How an attempt ends, and what that makes of its job.

use std::time::Duration;

use jiff::Timestamp;

use crate::domain::job::Publication;
use crate::domain::job::event::{AttemptOutcome, EventKind};
use crate::domain::job::failure::JobError;
use crate::domain::job::state::JobState;

/// How an attempt ends.
#[derive(Debug, Clone, PartialEq)]
pub enum Ending {
    /// The artifact is stored; this makes it visible.
    Succeeded(Box<Publication>),
    /// No further attempt.
    Failed {
        /// Why.
        error: JobError,
        /// It ended without a word of its own.
        crashed: bool,
    },
    /// Another attempt, unless the job shall be cancelled.
    Retry {
        /// Why this one failed.
        error: JobError,
        /// It ended without a word of its own.
        crashed: bool,
        /// How long the next one has to wait.
        delay: Duration,
    },
    /// The worker stopped because the job shall be cancelled.
    Cancelled,
    /// The worker stopped because the job shall pause.
    Paused,
    /// The worker was stopped: queued again, and the attempt does not count.
    Released,
}

/// What an ending makes of the job and of the attempt's record. Not always what was wished: a cancellation that came
/// first turns another attempt into the job's end.
#[derive(Debug, Clone, PartialEq)]
pub struct Settled {
    /// The job's next state.
    pub state: JobState,
    /// How the attempt's record says it ended.
    pub outcome: AttemptOutcome,
    /// What the log says.
    pub event: EventKind,
    /// Why it failed.
    pub error: Option<JobError>,
    /// Whether it counts against the budget.
    pub counts: bool,
    /// Whether it counts as a crash.
    pub crashed: bool,
    /// When the next attempt may begin, if that changes.
    pub run_after: Option<Timestamp>,
}

impl Ending {
    /// The one place that says where an attempt's end leads, shared by every database.
    #[expect(clippy::too_many_lines, reason = "one table, a row for each ending")]
    pub(super) fn settle(&self, state: JobState, now: Timestamp) -> Settled {
        let base = Settled {
            state: JobState::Cancelled,
            outcome: AttemptOutcome::Cancelled,
            event: EventKind::Cancelled,
            error: None,
            counts: false,
            crashed: false,
            run_after: None,
        };
        match self {
            Self::Succeeded(publication) => Settled {
                state: JobState::Succeeded,
                outcome: AttemptOutcome::Succeeded,
                event: EventKind::Succeeded {
                    digest: publication.report.digest().map(str::to_owned),
                },
                ..base
            },
            Self::Cancelled => base,
            // A process that dies while it shall be stopped has stopped.
            Self::Retry { .. }
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
            // One that fails while it shall pause waits, and its next attempt begins when it is resumed.
            Self::Retry { error, crashed, .. } if state == JobState::Pausing => Settled {
                state: JobState::Paused,
                outcome: failure(*crashed),
                event: EventKind::Paused,
                error: Some(error.clone()),
                counts: true,
                crashed: *crashed,
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
            },
            Self::Released => Settled {
                state: JobState::Queued,
                outcome: AttemptOutcome::Released,
                event: EventKind::Released,
                ..base
            },
        }
    }
}

fn failure(crashed: bool) -> AttemptOutcome {
    if crashed {
        AttemptOutcome::Crashed
    } else {
        AttemptOutcome::Failed
    }
}
