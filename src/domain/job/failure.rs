//! Why an attempt, and with it a job, failed.

use serde::{Deserialize, Serialize};

use super::progress::Phase;
use crate::domain::ErrorCode;

/// Why an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AttemptFailure {
    /// The stable reason.
    pub code: ErrorCode,
    /// What failed, for which input.
    pub message: String,
    /// Where it failed; `null` before the first phase.
    pub phase: Option<Phase>,
    /// Whether another attempt may succeed.
    pub retryable: bool,
}

/// Why a job failed, or why its last attempt did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct JobError {
    /// What the attempt said.
    #[serde(flatten)]
    pub failure: AttemptFailure,
    /// Which attempt.
    pub attempt: u32,
}

impl AttemptFailure {
    /// A failure that is retried if its code is.
    pub fn new(code: ErrorCode, message: String, phase: Option<Phase>) -> Self {
        Self {
            code,
            message,
            phase,
            retryable: code.retryable(),
        }
    }
}

impl JobError {
    /// The error of an attempt whose process ended without a word.
    pub fn crash(attempt: u32, phase: Option<Phase>, message: String) -> Self {
        let failure = AttemptFailure::new(ErrorCode::WorkerCrashed, message, phase);
        Self { failure, attempt }
    }
}
