//! How much a job computes, so that its time can be foreseen.
//!
//! Multiplications of linears, of the head and of what solves for weights, which are nearly all there is:
//!
//! ```text
//! pruning   = n_samples · seq_len · Σ_blocks observing + Σ_blocks solving
//! observing = 2 · weights + Gram                                for the last block 1 · weights
//!             2 · (weights + gate + up) + 3 · Gram + residual   paired; for the last block 2 · (weights − down) + …
//!             1 · weights                                       where parts are ranked
//! measuring = tokens · (Σ_blocks weights + vocab · hidden)     for each model, the pruned one without what is removed
//! ```
//!
//! Of experts only those count that read a token. The weights count twice where an allocation measures the dense blocks first.
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
    /// While it measures the perplexity of the pruned model, or of the model; `None` where a text is as long as it is.
    pub measuring: Option<u64>,
    /// While it measures that of the model it is compared with; nothing where it is not.
    pub comparing: Option<u64>,
    /// Whether tasks come to it.
    pub has_tasks: bool,
}

impl JobWork {
    /// All of it, where that is known.
    pub fn total(&self) -> Option<u64> {
        let measuring = self.measuring.filter(|_| !self.has_tasks)?;
        let measuring = measuring.saturating_add(self.comparing?);
        Some(self.pruning.saturating_add(measuring))
    }
}

/// The work of a job on a model of these numbers.
pub fn estimate(spec: &JobSpec, model: &ModelPlan) -> JobWork {
    let weights: u64 = model.blocks.iter().map(BlockPlan::weights_per_token).sum();
    let pruning = match spec {
        JobSpec::Prune(spec) => spec.calibration_in_use().map(|calibration| {
            let seq_len = calibration.seq_len.unwrap_or(model.default_seq_len());
            let tokens = (calibration.n_samples as u64).saturating_mul(seq_len as u64);
            let (pruning, n_blocks) = (spec.pruning(), model.blocks.len());
            let blocks = model.blocks.iter();
            let observing = blocks.clone().enumerate();
            let observing = observing
                .map(|(at, block)| pruning.observing_multiplications(block, at + 1 == n_blocks))
                .fold(0, u64::saturating_add);
            let solving = blocks.map(|block| pruning.multiplications(block));
            let solving = solving.fold(0, u64::saturating_add);
            tokens.saturating_mul(observing).saturating_add(solving)
        }),
        JobSpec::Evaluate(_) => None,
    };
    let evaluation = spec.evaluation();
    let seq_len = evaluation.seq_len.unwrap_or(model.default_seq_len()) as u64;
    let of_token = weights + model.vocab as u64 * model.hidden as u64;
    let removed = match spec {
        JobSpec::Prune(spec) => spec.pruning().least_removed(model),
        JobSpec::Evaluate(_) => 0,
    };
    // A token passes the same share of them as of all weights.
    let all: u64 = model.blocks.iter().map(BlockPlan::weights).sum();
    let removed = u128::from(removed) * u128::from(weights) / u128::from(all.max(1));
    let removed = u64::try_from(removed).unwrap_or(weights);
    let texts = evaluation.perplexity.iter();
    let tokens = texts.map(|text| most_tokens(evaluation, text, seq_len));
    let tokens: Option<u64> = tokens.sum();
    JobWork {
        pruning: pruning.unwrap_or_default(),
        has_tasks: !evaluation.tasks.is_empty(),
        measuring: tokens.map(|tokens| tokens.saturating_mul(of_token - removed)),
        comparing: if spec.is_comparison() {
            tokens.map(|tokens| tokens.saturating_mul(of_token))
        } else {
            Some(0)
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::request::{Defaults, JobRequest};

    fn model(hidden: u64, intermediate: u64, blocks: u64) -> ModelPlan {
        let config = json!({
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": hidden,
            "intermediate_size": intermediate, "num_hidden_layers": blocks,
            "num_attention_heads": 32, "vocab_size": 32_000, "max_position_embeddings": 4096,
        });
        ModelPlan::parse(config.to_string().as_bytes()).unwrap()
    }

    fn pruning(model: &ModelPlan, more: &Value) -> u64 {
        let mut body = json!({
            "model": "org/name", "sparsity": 0.5, "calibration": {"n_samples": 1, "seq_len": 2},
        });
        for (field, value) in more.as_object().unwrap() {
            body[field] = value.clone();
        }
        let spec = JobRequest::parse(&body, Defaults::CPU).unwrap().spec;
        estimate(&spec, model).pruning
    }

    /// The shapes of a model of seven billion weights and two tokens, by hand.
    #[test]
    fn two_streams_are_more_work_than_one() {
        let [one, two] = [1, 2].map(|blocks| model(4096, 11_008, blocks));
        let of_block = |propagation: &str| {
            let fields = json!({"refit": true, "propagation": propagation});
            pruning(&two, &fields) - pruning(&one, &fields)
        };
        assert_eq!(of_block("paired") - of_block("pruned"), 2 * 413_728_768);
    }

    #[test]
    fn the_largest_numbers_that_a_model_may_have_overflow_nothing() {
        let largest = model(1 << 24, 1 << 24, 4096);
        for fields in [
            json!({"method": "sparsegpt"}),
            json!({"method": "alps", "propagation": "paired"}),
            json!({"refine": "swaps", "refit": true}),
        ] {
            assert_eq!(pruning(&largest, &fields), u64::MAX, "{fields}");
        }
    }
}
