//! How much a job computes, so that its time can be foreseen.
//!
//! Multiplications of linears, of the head and of what solves for weights, which are nearly all there is:
//!
//! ```text
//! pruning   = n_samples · seq_len · Σ_blocks (weights · (2 blocks − 1) / blocks + Gram) + Σ_blocks solving
//! measuring = tokens · (Σ_blocks weights + vocab · hidden)     for each model
//! ```
//!
//! The weights count twice where an allocation measures the dense blocks first.
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
    /// While it measures the perplexity of one model; `None` where a text is as long as it is.
    pub measuring: Option<u64>,
    /// How many are measured.
    pub models: u64,
    /// Whether tasks come to it.
    pub has_tasks: bool,
}

impl JobWork {
    /// All of it, where that is known.
    pub fn total(&self) -> Option<u64> {
        let measuring = self.measuring.filter(|_| !self.has_tasks)?;
        Some(
            self.pruning
                .saturating_add(measuring.saturating_mul(self.models)),
        )
    }
}

/// The work of a job on a model of these numbers.
pub fn estimate(spec: &JobSpec, model: &ModelPlan) -> JobWork {
    let weights: u64 = model.blocks.iter().map(BlockPlan::weights).sum();
    let pruning = match spec {
        JobSpec::Prune(spec) => spec.calibration_in_use().map(|calibration| {
            let seq_len = calibration.seq_len.unwrap_or(model.default_seq_len());
            let tokens = calibration.n_samples as u64 * seq_len as u64;
            let n_blocks = model.blocks.len() as u64;
            let blocks = model.blocks.iter();
            let grams = blocks
                .clone()
                .map(|block| spec.recipe().gram_multiplications(block));
            let solving = blocks.map(|block| spec.recipe().multiplications(block));
            let passes = if spec.measures_blocks() { 2 } else { 1 };
            let of_token = passes * (weights / n_blocks * (2 * n_blocks - 1)) + grams.sum::<u64>();
            tokens
                .saturating_mul(of_token)
                .saturating_add(solving.sum())
        }),
        JobSpec::Evaluate(_) => None,
    };
    let evaluation = spec.evaluation();
    let seq_len = evaluation.seq_len.unwrap_or(model.default_seq_len()) as u64;
    let of_token = weights + model.vocab as u64 * model.hidden as u64;
    let texts = evaluation.perplexity.iter();
    let tokens = texts.map(|text| most_tokens(evaluation, text, seq_len));
    let tokens: Option<u64> = tokens.sum();
    JobWork {
        pruning: pruning.unwrap_or_default(),
        models: 1 + u64::from(spec.is_comparison()),
        has_tasks: !evaluation.tasks.is_empty(),
        measuring: tokens.map(|tokens| tokens.saturating_mul(of_token)),
    }
}
