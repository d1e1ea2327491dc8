//! How far a job is.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What the job is doing now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Finding the model and checking that it can be pruned.
    Resolving,
    /// Fetching files from the hub.
    Downloading,
    /// Drawing the calibration windows.
    Calibrating,
    /// Observing and pruning, block by block.
    Pruning,
    /// Measuring perplexity and tasks.
    Evaluating,
    /// Storing the artifact.
    Publishing,
}

impl Phase {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Resolving => "resolving",
            Self::Downloading => "downloading",
            Self::Calibrating => "calibrating",
            Self::Pruning => "pruning",
            Self::Evaluating => "evaluating",
            Self::Publishing => "publishing",
        }
    }
}

/// How far one step of a phase is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Step {
    /// Such as `blocks`, `dense perplexity`, or a file name.
    pub name: String,
    /// Units done.
    pub finished: u64,
    /// Units in all.
    pub total: u64,
    /// `blocks`, `tokens` or `bytes`.
    pub unit: String,
    /// Seconds until it will be done at the speed it had so far; `null` while that cannot be said.
    #[serde(default)]
    pub eta_seconds: Option<u64>,
}

/// How far the running phase is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Progress {
    /// The step; it moves forward only, within one attempt.
    #[serde(flatten)]
    pub step: Step,
    /// When the worker last said so.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
}
