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
    /// Shall be cancelled; its worker has not stopped yet.
    Cancelling,
    /// Ended because somebody asked for it.
    Cancelled,
}

impl JobState {
    /// Every state.
    pub const ALL: [Self; 6] = [
        Self::Queued,
        Self::Running,
        Self::Succeeded,
        Self::Failed,
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
            Self::Cancelling => "cancelling",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether the job is over.
    pub fn is_terminal(self) -> bool {
        Self::ALL.iter().all(|&next| !self.may_become(next))
    }

    /// The legal transitions; a trigger in the database enforces the same ones.
    pub fn may_become(self, next: Self) -> bool {
        match self {
            Self::Queued => matches!(next, Self::Running | Self::Cancelled),
            Self::Running => matches!(
                next,
                Self::Succeeded | Self::Failed | Self::Queued | Self::Cancelling
            ),
            // A holder that finishes before it hears of the cancellation has finished.
            Self::Cancelling => matches!(next, Self::Cancelled | Self::Succeeded | Self::Failed),
            Self::Succeeded | Self::Failed | Self::Cancelled => false,
        }
    }

    /// What a request to cancel makes of this state; `None` where it is too late.
    pub fn after_cancel_request(self) -> Option<Self> {
        match self {
            Self::Queued | Self::Cancelled => Some(Self::Cancelled),
            Self::Running | Self::Cancelling => Some(Self::Cancelling),
            Self::Succeeded | Self::Failed => None,
        }
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
    fn a_request_to_cancel_leads_only_where_the_state_machine_goes() {
        for state in JobState::ALL {
            if let Some(next) = state.after_cancel_request() {
                assert!(
                    next == state || state.may_become(next),
                    "{state:?} to {next:?}"
                );
            }
        }
    }

    #[test]
    fn three_states_are_terminal() {
        let terminal: Vec<_> = JobState::ALL
            .into_iter()
            .filter(|state| state.is_terminal())
            .collect();
        assert_eq!(
            terminal,
            [JobState::Succeeded, JobState::Failed, JobState::Cancelled]
        );
    }
}
