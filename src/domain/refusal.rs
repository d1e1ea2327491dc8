//! Why a submission that is well-formed is not accepted.

use super::error_code::ErrorCode;

/// Why a job cannot be accepted, and which field of its body is to blame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// JSON pointer into the request body.
    pub pointer: String,
    /// The stable reason.
    pub code: ErrorCode,
    /// What is wrong, with the facts.
    pub detail: String,
}
