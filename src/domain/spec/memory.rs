//! How much memory a job is thought to need, so that it is not given to a worker that is too small for it.
//!
//! An estimate of what a job cannot do without, from the numbers of its models and of its windows; `docs/PERFORMANCE.md`
//! compares it with what was measured. In bytes, everything in f32, as it is computed:
//!
//! ```text
//! block       = 4 · (weights of a block's linears + weights of its largest linear)
//! batch       = 4 · max(2048, seq_len) · (3 · intermediate + 4 · hidden)
//! calibration = 4 · n_samples · seq_len · hidden · activations                if the method reads any
//! solving     = Gram matrices of a block's inputs and what the method needs   if it needs them; with paired inputs twice
//!               the matrices, what the residual stream is ahead, and the dense block
//! wave        = min(256 MiB, 4 · tokens · hidden)                             of `windows`, or of the longest text
//! head        = 4 · vocab · hidden + 32 MiB of logits                         where anything is measured
//! measuring   = models · (wave + head)                                        models = 2 where two are compared
//! estimate    = 9/8 · (64 MiB + block + batch + max(calibration + solving, measuring))
//! ```
//!
//! Blocks that a measurement keeps in memory because there is room for them are not counted.

use super::evaluation::EvaluationSpec;
use super::job_spec::JobSpec;
use crate::corpora::DatasetRef;
use crate::engine::model::{BlockPlan, LinearSpec};
use crate::engine::{BATCH_TOKENS, LOGITS_BYTES, ModelPlan, WAVE_BYTES};

/// The program, its tokenizer and its texts.
const PROGRAM_BYTES: u64 = 64 << 20;

/// Bytes of a number.
const F32: u64 = size_of::<f32>() as u64;

/// Bytes that the job needs with models of these numbers; the largest counts. `None` without any.
pub fn estimate(spec: &JobSpec, models: &[ModelPlan]) -> Option<u64> {
    models.iter().map(|model| of_model(spec, model)).max()
}

fn of_model(spec: &JobSpec, model: &ModelPlan) -> u64 {
    let evaluation = spec.evaluation();
    let hidden = model.hidden as u64;
    let calibration = match spec {
        JobSpec::Prune(spec) => spec.calibration_in_use(),
        JobSpec::Evaluate(_) => None,
    };
    let activations = match spec {
        JobSpec::Prune(spec) => spec.pruning().activations(),
        JobSpec::Evaluate(_) => 0,
    };
    let (calibration, calibration_len) = calibration.map_or((0, 0), |calibration| {
        let seq_len = calibration.seq_len.unwrap_or(model.default_seq_len()) as u64;
        let tokens = (calibration.n_samples as u64).saturating_mul(seq_len);
        (tokens.saturating_mul(F32 * hidden * activations), seq_len)
    });
    let seq_len = evaluation.seq_len.unwrap_or(model.default_seq_len()) as u64;
    let longest = (BATCH_TOKENS as u64).max(seq_len).max(calibration_len);
    let batch = F32 * longest * (3 * widest(model, BlockPlan::inner_width) + 4 * hidden);
    let measuring = measuring(evaluation, spec.is_comparison(), model, seq_len);
    let solving = match spec {
        JobSpec::Prune(spec) => {
            let pruning = spec.pruning();
            widest(model, |block| pruning.working_bytes(block))
        }
        JobSpec::Evaluate(_) => 0,
    };
    let pruning = calibration.saturating_add(solving);
    let all = PROGRAM_BYTES + widest(model, block) + batch;
    let all = all.saturating_add(pruning.max(measuring));
    all.saturating_add(all / 8)
}

/// The most of anything that a block has.
fn widest(model: &ModelPlan, of_block: impl Fn(&BlockPlan) -> u64) -> u64 {
    model.blocks.iter().map(of_block).max().unwrap_or_default()
}

/// The linears of a block, and the one that is being pruned once more.
fn block(plan: &BlockPlan) -> u64 {
    let largest = plan.linears.iter().map(LinearSpec::weights).max();
    F32 * (plan.weights() + largest.unwrap_or_default())
}

fn measuring(
    evaluation: &EvaluationSpec,
    is_comparison: bool,
    model: &ModelPlan,
    seq_len: u64,
) -> u64 {
    if evaluation.is_empty() {
        return 0;
    }
    let hidden = model.hidden as u64;
    let wave = match most_at_once(evaluation, seq_len) {
        Some(tokens) => (F32 * hidden).saturating_mul(tokens).min(WAVE_BYTES as u64),
        None => WAVE_BYTES as u64,
    };
    let head = F32 * model.vocab as u64 * hidden + LOGITS_BYTES as u64;
    // Tasks are measured on one model after the other, texts on both at once.
    let models = 1 + u64::from(is_comparison && !evaluation.perplexity.is_empty());
    models * (wave + head)
}

/// Of all that is measured, the most at once; `None` where that is not known.
fn most_at_once(evaluation: &EvaluationSpec, seq_len: u64) -> Option<u64> {
    if !evaluation.tasks.is_empty() {
        return None;
    }
    let texts = evaluation.perplexity.iter();
    let tokens: Option<Vec<u64>> = texts
        .map(|text| most_tokens(evaluation, text, seq_len))
        .collect();
    tokens?.into_iter().max()
}

/// Tokens of a text that are measured at most; `None` where that is not known.
pub(in crate::domain) fn most_tokens(
    evaluation: &EvaluationSpec,
    text: &DatasetRef,
    seq_len: u64,
) -> Option<u64> {
    let asked = match (evaluation.windows, evaluation.max_tokens) {
        (Some(windows), _) => Some((windows as u64).saturating_mul(seq_len)),
        (None, most) => most.map(|tokens| (tokens as u64).max(seq_len)),
    };
    asked.into_iter().chain(text.max_tokens()).min()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::corpora::DEMO;
    use crate::request::{Defaults, JobRequest};

    const MIB: u64 = 1 << 20;

    fn smol_lm2() -> ModelPlan {
        let config = json!({
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 576,
            "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
            "num_key_value_heads": 3, "vocab_size": 49152, "max_position_embeddings": 8192,
            "tie_word_embeddings": true,
        });
        ModelPlan::parse(config.to_string().as_bytes()).unwrap()
    }

    fn estimate_mib(body: &Value) -> u64 {
        let spec = JobRequest::parse(body, Defaults::CPU).unwrap().spec;
        estimate(&spec, &[smol_lm2()]).unwrap() / MIB
    }

    fn pruned(method: &str, n_samples: u64, perplexity: &Value) -> Value {
        json!({
            "model": "org/name", "sparsity": 0.5, "method": method,
            "calibration": {"n_samples": n_samples, "seq_len": 512},
            "evaluation": {"perplexity": perplexity, "seq_len": 512, "windows": 60},
        })
    }

    /// Measured: 173 MiB to prune, 362 to 374 MiB for the perplexity of one model (`docs/PERFORMANCE.md`).
    #[test]
    fn the_estimate_is_a_little_more_than_what_was_measured() {
        let pruning = estimate_mib(&pruned("wanda", 32, &json!([])));
        assert!((173..=230).contains(&pruning), "{pruning}");
        let measuring = estimate_mib(&json!({
            "type": "evaluate", "model": "org/name", "evaluation": {"seq_len": 512, "windows": 60},
        }));
        assert!((374..=450).contains(&measuring), "{measuring}");
    }

    #[test]
    fn it_grows_with_what_has_to_be_there_at_once() {
        let none = json!([]);
        let few = estimate_mib(&pruned("wanda", 32, &none));
        let many = estimate_mib(&pruned("wanda", 320, &none));
        assert!(
            many > few + 350,
            "288 more windows of 1.1 MiB: {few}, {many}"
        );
        assert_eq!(
            estimate_mib(&pruned("magnitude", 32, &none)),
            estimate_mib(&pruned("magnitude", 320, &none)),
            "magnitude reads no text"
        );
        let compared = estimate_mib(&pruned("wanda", 32, &json!(["wikitext2"])));
        assert!(compared > 2 * 240, "two heads and two waves: {compared}");
    }

    #[test]
    fn the_bundled_text_is_as_long_as_it_is() {
        let text = include_bytes!("../../../assets/demo/test.txt");
        assert_eq!(Some(text.len() as u64), DEMO.max_tokens);
        let measured = |text: &str| {
            let evaluation = json!({"perplexity": [text], "max_tokens": null});
            let body = json!({"type": "evaluate", "model": "org/name", "evaluation": evaluation});
            estimate_mib(&body)
        };
        assert!(measured("demo") < measured("wikitext2"));
    }

    #[test]
    fn the_dense_block_stays_beside_a_paired_one() {
        let solving = |propagation: &str| {
            let body = json!({
                "model": "org/name", "sparsity": 0.5, "refit": true, "propagation": propagation,
            });
            match JobRequest::parse(&body, Defaults::CPU).unwrap().spec {
                JobSpec::Prune(spec) => spec.pruning().working_bytes(&smol_lm2().blocks[0]),
                JobSpec::Evaluate(_) => 0,
            }
        };
        let (squares, residual) = (3 * 576 * 576 + 1536 * 1536, 576 * 576 + 576 * 1536);
        let block = smol_lm2().blocks[0].weights();
        let more = solving("paired") - solving("pruned");
        assert_eq!(more, F32 * (squares + residual + block));
    }

    /// The largest numbers that a configuration and a request may have.
    #[test]
    fn a_model_beyond_all_bounds_needs_more_than_any_machine_has() {
        let largest = 1 << 24;
        let config = json!({
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": largest,
            "intermediate_size": largest, "num_hidden_layers": 1, "num_attention_heads": 1,
            "vocab_size": largest, "max_position_embeddings": largest,
        });
        let model = ModelPlan::parse(config.to_string().as_bytes()).unwrap();
        let body = json!({
            "model": "org/name", "sparsity": 0.5, "calibration": {"n_samples": 4096},
        });
        let mut spec = JobRequest::parse(&body, Defaults::CPU).unwrap().spec;
        if let JobSpec::Prune(spec) = &mut spec {
            spec.calibration.seq_len = Some(largest);
        }
        assert!(estimate(&spec, &[model]) > Some(1 << 62));
    }

    #[test]
    fn nothing_is_known_of_models_that_are_not_there() {
        let spec = JobRequest::parse(&pruned("wanda", 32, &json!([])), Defaults::CPU);
        assert_eq!(estimate(&spec.unwrap().spec, &[]), None);
    }
}
