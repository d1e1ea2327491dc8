//! How far a job is.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What the job is doing now.
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Step {
    /// Such as `blocks`, `dense perplexity`, or a file name.
    pub name: String,
    /// Units done.
    pub finished: u64,
    /// Units in all.
    pub total: u64,
    /// `blocks`, `tokens` or `bytes`. While pruning, each token counts once per block and pass.
    pub unit: String,
    /// Units per second so far, such as tokens per second; `null` while that cannot be said.
    #[serde(default)]
    pub units_per_second: Option<f64>,
    /// Seconds until it will be done at this speed; `null` while that cannot be said.
    #[serde(default)]
    pub eta_seconds: Option<u64>,
}

impl Step {
    /// A step whose speed is not known.
    pub fn new(name: String, unit: &str, finished: u64, total: u64) -> Self {
        Self {
            name,
            finished,
            total,
            unit: unit.to_owned(),
            units_per_second: None,
            eta_seconds: None,
        }
    }

    /// How much of it is done, 0 to 1.
    pub fn fraction(&self) -> f64 {
        (self.finished as f64 / self.total.max(1) as f64).min(1.0)
    }
}

/// How far a whole job is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Overall {
    /// 0 to 100; never goes back, whatever becomes of an attempt.
    pub percent: f64,
    /// Seconds until the job will be over; `None` while that cannot be said.
    pub eta_seconds: Option<u64>,
}

/// What a worker last said about a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// How far the job is.
    #[serde(flatten)]
    pub overall: Overall,
    /// What the phase is at.
    pub step: Option<Step>,
    /// When the worker said so.
    pub updated_at: Timestamp,
}
