//! How much a job computes, so that its time can be foreseen.
//!
//! Multiplications of linears and of the head, which are nearly all there is:
//!
//! ```text
//! pruning   = n_samples · seq_len · Σ_blocks weights · (2 blocks − 1) / blocks     if the method reads any windows
//! measuring = models · tokens · (Σ_blocks weights + vocab · hidden)
//! ```
//!
//! Tasks are not counted: how long their documents are shows when they are read.

use super::job_spec::JobSpec;
use super::memory::most_tokens;
use crate::engine::ModelPlan;
use crate::engine::model::BlockPlan;

/// Multiplications of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobWork {
    /// While it prunes.
    pub pruning: u64,
    /// While it measures perplexity; `None` where a text is as long as it is.
    pub measuring: Option<u64>,
    /// Whether tasks come to it.
    pub has_tasks: bool,
}

impl JobWork {
    /// All of it, where that is known.
    pub fn total(&self) -> Option<u64> {
        let measuring = self.measuring.filter(|_| !self.has_tasks)?;
        Some(self.pruning.saturating_add(measuring))
    }
}

/// The work of a job on a model of these numbers.
pub fn estimate(spec: &JobSpec, model: &ModelPlan) -> JobWork {
    let weights: u64 = model.blocks.iter().map(BlockPlan::weights).sum();
    let calibration = match spec {
        JobSpec::Prune(spec) => spec.calibration_in_use(),
        JobSpec::Evaluate(_) => None,
    };
    let pruning = calibration.map_or(0, |calibration| {
        let seq_len = calibration.seq_len.unwrap_or(model.default_seq_len());
        let tokens = calibration.n_samples as u64 * seq_len as u64;
        let blocks = model.blocks.len() as u64;
        tokens.saturating_mul(weights) / blocks * (2 * blocks - 1)
    });
    let evaluation = spec.evaluation();
    let seq_len = evaluation.seq_len.unwrap_or(model.default_seq_len()) as u64;
    let of_token = weights + model.vocab as u64 * model.hidden as u64;
    let models = 1 + u64::from(spec.is_comparison());
    let texts = evaluation.perplexity.iter();
    let tokens = texts.map(|text| most_tokens(evaluation, text, seq_len));
    let tokens: Option<u64> = tokens.sum();
    JobWork {
        pruning,
        has_tasks: !evaluation.tasks.is_empty(),
        measuring: tokens.map(|tokens| tokens.saturating_mul(models * of_token)),
    }
}
