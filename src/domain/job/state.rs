//! The states of a job, and which may follow which.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Where a job is in its life.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Waits for a worker.
    Queued,
    /// A worker holds its lease.
    Running,
    /// Its artifact can be downloaded.
    Succeeded,
    /// Ended with an error.
    Failed,
    /// Shall pause; its resume state is not saved yet.
    Pausing,
    /// Waits for somebody to resume it.
    Paused,
    /// Shall be cancelled; its worker has not stopped yet.
    Cancelling,
    /// Ended because somebody asked for it.
    Cancelled,
}

impl JobState {
    /// Every state.
    pub const ALL: [Self; 8] = [
        Self::Queued,
        Self::Running,
        Self::Succeeded,
        Self::Failed,
        Self::Pausing,
        Self::Paused,
        Self::Cancelling,
        Self::Cancelled,
    ];

    /// The word on the wire and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Pausing => "pausing",
            Self::Paused => "paused",
            Self::Cancelling => "cancelling",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether the job is over, unless somebody has it tried again.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }

    /// Whether a worker holds it.
    pub fn is_held(self) -> bool {
        matches!(self, Self::Running | Self::Pausing | Self::Cancelling)
    }

    /// The legal transitions; a trigger in the database enforces the same ones.
    pub fn may_become(self, next: Self) -> bool {
        match self {
            Self::Queued => matches!(
                next,
                Self::Running | Self::Paused | Self::Cancelled | Self::Failed
            ),
            Self::Running => matches!(
                next,
                Self::Succeeded | Self::Failed | Self::Queued | Self::Pausing | Self::Cancelling
            ),
            // A holder that finishes before it hears of what was asked has finished.
            Self::Pausing => matches!(
                next,
                Self::Paused | Self::Succeeded | Self::Failed | Self::Cancelling
            ),
            Self::Paused => matches!(next, Self::Queued | Self::Cancelled | Self::Failed),
            Self::Cancelling => matches!(next, Self::Cancelled | Self::Succeeded | Self::Failed),
            Self::Failed | Self::Cancelled => next == Self::Queued,
            Self::Succeeded => false,
        }
    }
}

/// What somebody can ask of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// End it without a result.
    Cancel,
    /// Stop working on it for now.
    Pause,
    /// Go on with it.
    Resume,
    /// Try again what has failed or was cancelled, with a fresh budget of attempts.
    Retry,
    /// Forget it and its files.
    Delete,
}

impl Action {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Retry => "retry",
            Self::Delete => "delete",
        }
    }

    /// What it makes of a job in this state; the state itself where there is nothing (more) to do, `None` where it is
    /// not allowed. A deleted job has no state: it is allowed in the states that it gives.
    pub fn after(self, state: JobState) -> Option<JobState> {
        use JobState as S;
        match (self, state) {
            (Self::Cancel, S::Queued | S::Paused | S::Cancelled) => Some(S::Cancelled),
            (Self::Cancel, S::Running | S::Pausing | S::Cancelling) => Some(S::Cancelling),
            (Self::Pause, S::Queued | S::Paused) => Some(S::Paused),
            (Self::Pause, S::Running | S::Pausing) => Some(S::Pausing),
            (Self::Resume, S::Queued | S::Paused)
            | (Self::Retry, S::Queued | S::Failed | S::Cancelled) => Some(S::Queued),
            (Self::Resume | Self::Retry, S::Running) => Some(S::Running),
            (Self::Delete, S::Succeeded | S::Failed | S::Cancelled) => Some(state),
            (
                Self::Cancel | Self::Pause | Self::Resume | Self::Retry | Self::Delete,
                S::Queued
                | S::Running
                | S::Succeeded
                | S::Failed
                | S::Pausing
                | S::Paused
                | S::Cancelling
                | S::Cancelled,
            ) => None,
        }
    }

    /// The states in which it is allowed.
    pub fn allowed_in(self) -> Vec<JobState> {
        let states = JobState::ALL.into_iter();
        states
            .filter(|&state| self.after(state).is_some())
            .collect()
    }
}

impl FromStr for JobState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|state| state.as_str() == text);
        found.ok_or_else(|| {
            format!(
                "unknown status {text:?}, expected {}",
                Self::ALL.map(Self::as_str).join(", ")
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_of_a_state_is_the_word_on_the_wire() {
        for state in JobState::ALL {
            assert_eq!(serde_json::json!(state), serde_json::json!(state.as_str()));
            assert_eq!(state.as_str().parse(), Ok(state));
        }
    }

    #[test]
    fn what_is_asked_leads_only_where_the_state_machine_goes() {
        use Action::{Cancel, Delete, Pause, Resume, Retry};
        for action in [Cancel, Pause, Resume, Retry, Delete] {
            assert!(!action.allowed_in().is_empty());
            for state in JobState::ALL {
                if let Some(next) = action.after(state) {
                    assert!(
                        next == state || state.may_become(next),
                        "{action:?}: {state:?} to {next:?}"
                    );
                    assert_eq!(action.after(next), Some(next), "{action:?} twice");
                }
            }
        }
    }

    #[test]
    fn a_job_that_is_over_changes_only_by_being_tried_again() {
        for state in JobState::ALL {
            let next = JobState::ALL.into_iter().filter(|&n| state.may_become(n));
            let next: Vec<_> = next.collect();
            let expected = match state {
                JobState::Succeeded => vec![],
                JobState::Failed | JobState::Cancelled => vec![JobState::Queued],
                _ => continue,
            };
            assert!(state.is_terminal());
            assert_eq!(next, expected, "{state:?}");
        }
    }
}
