//! What was measured. `before` is the dense model (or the baseline), `after` the pruned one (or the model itself).
//!
//! Two numbers stand in one difference only if they were measured under the same protocol.

use serde::{Deserialize, Serialize};

use super::protocol::{PerplexityProtocol, Protocol};

/// What was measured.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Results {
    /// One entry per text.
    pub perplexity: Vec<PerplexityResult>,
    /// One entry per task.
    #[serde(default)]
    #[schema(required)]
    pub tasks: Vec<TaskResult>,
    /// Over the tasks that have an accuracy; `null` with fewer than two.
    #[serde(default)]
    pub mean: Option<MeanResult>,
    /// What the models write after fixed prompts.
    #[serde(default)]
    #[schema(required)]
    pub generations: Vec<GenerationResult>,
    /// Warnings of the collapse guard, about the model and about how it was pruned.
    #[serde(default)]
    #[schema(required)]
    pub warnings: Vec<Warning>,
}

/// Perplexity on one text, before and after, under one protocol.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PerplexityResult {
    /// Everything below that a number depends on, in one line.
    #[serde(default)]
    #[schema(required)]
    pub protocol_id: String,
    /// Name or file.
    pub dataset: String,
    /// SHA-256 of the text.
    pub text_sha256: String,
    /// `paper`: consecutive windows, the first token of each unscored, tail dropped.
    pub protocol: String,
    /// Tokens per window.
    pub seq_len: usize,
    /// Number of windows.
    pub windows: usize,
    /// Tokens fed: windows times `seq_len`.
    pub tokens: usize,
    /// Dtype of the computation.
    pub dtype: String,
    /// Device of the computation.
    pub device: String,
    /// Of the dense model or the baseline.
    pub before: Option<f64>,
    /// Of the pruned artifact, read back from disk, or of the model that is evaluated.
    pub after: Option<f64>,
    /// How far the two models' predictions lie apart; `null` where there is one model.
    #[serde(default)]
    pub divergence: Option<DivergenceResult>,
}

impl PerplexityResult {
    /// What was measured under `protocol`.
    pub fn new(
        protocol: PerplexityProtocol,
        before: Option<f64>,
        after: Option<f64>,
        divergence: Option<DivergenceResult>,
    ) -> Self {
        Self {
            protocol_id: protocol.id(),
            tokens: protocol.windows * protocol.seq_len,
            dataset: protocol.dataset,
            text_sha256: protocol.text_sha256,
            protocol: protocol.protocol,
            seq_len: protocol.seq_len,
            windows: protocol.windows,
            dtype: protocol.dtype,
            device: protocol.device,
            before,
            after,
            divergence,
        }
    }
}

/// KL(P_before ‖ P_after) = Σ_v p ln(p / q) at every predicted token of a text, in nats.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = Divergence)]
pub struct DivergenceResult {
    /// Mean over tokens.
    pub kl: f64,
    /// Standard error of that mean, windows taken as independent; `null` for a single window.
    pub kl_stderr: Option<f64>,
    /// Fraction of tokens where both models put the same token first.
    pub top1_agreement: f64,
}

/// One task, before and after.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TaskResult {
    /// What the numbers depend on.
    pub protocol: Protocol,
    /// Such as `acc`, `acc_norm`; the first is the task's main one.
    pub metrics: Vec<MetricResult>,
    /// Documents that changed sides; `null` where there is one model.
    pub flips: Option<Flips>,
    /// The parts of a task that has parts, such as MMLU's subjects.
    #[serde(default)]
    #[schema(required)]
    pub subjects: Vec<SubjectResult>,
}

/// One metric, before and after.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MetricResult {
    /// Its name.
    pub metric: String,
    /// Whether more is better.
    pub higher_is_better: bool,
    /// Of the dense model or the baseline.
    pub before: Option<Estimate>,
    /// Of the pruned artifact or of the model that is evaluated.
    pub after: Option<Estimate>,
    /// `after − before`, document by document; `null` where there is one model.
    pub difference: Option<Difference>,
}

/// A mean over documents.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Estimate {
    /// The mean.
    pub value: f64,
    /// Its standard error: sample standard deviation / √n; `null` where there is none.
    pub stderr: Option<f64>,
}

/// A paired difference with its 95 % interval.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Difference {
    /// `after − before`.
    pub value: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// How the interval was made: `score` (Tango) or `bootstrap` of documents.
    pub method: String,
    /// Two-sided exact McNemar test of no difference, where the scores are 0 or 1.
    pub p_value: Option<f64>,
}

/// Documents that changed sides between the models.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Flips {
    /// Right before, wrong after.
    pub right_to_wrong: usize,
    /// Wrong before, right after.
    pub wrong_to_right: usize,
    /// Documents in all.
    pub n: usize,
}

/// A part of a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SubjectResult {
    /// Its name.
    pub subject: String,
    /// Its documents.
    pub n: usize,
    /// Accuracy of the dense model or the baseline.
    pub before: Option<Estimate>,
    /// Accuracy of the pruned artifact or of the model that is evaluated.
    pub after: Option<Estimate>,
}

/// Unweighted mean over tasks, as pruning papers print it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MeanResult {
    /// The metric: `acc`.
    pub metric: String,
    /// The tasks.
    pub tasks: Vec<String>,
    /// Of the dense model or the baseline.
    pub before: Option<Estimate>,
    /// Of the pruned artifact or of the model that is evaluated.
    pub after: Option<Estimate>,
    /// `after − before`.
    pub difference: Option<Difference>,
}

/// What the models write after one prompt, the likeliest token each time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct GenerationResult {
    /// The prompt.
    pub prompt: String,
    /// By the dense model or the baseline.
    pub before: Option<Continuation>,
    /// By the pruned artifact or the model that is evaluated.
    pub after: Option<Continuation>,
}

/// A greedy continuation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = Generation)]
pub struct Continuation {
    /// What was written.
    pub text: String,
    /// Fraction of its token 4-grams that stood in it before.
    pub repetition: f64,
}

/// A threshold of the collapse guard that was crossed, or what should be known of the model or of how it was pruned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Warning {
    /// What it is about.
    pub code: WarningCode,
    /// The text, task or prompt that it was crossed on.
    pub subject: String,
    /// What was measured; `null` if that is no finite number.
    pub value: Option<f64>,
    /// The threshold; 0 where there is none.
    pub threshold: f64,
    /// The same in a sentence.
    pub message: String,
}

/// What a warning is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WarningCode {
    /// Perplexity grew too much.
    PerplexityRatio,
    /// The predictions lie too far from the dense model's.
    KlDivergence,
    /// A task's accuracy fell too much.
    AccuracyDrop,
    /// MMLU fell to chance.
    NearChance,
    /// A continuation repeats itself.
    Repetition,
    /// Documents are longer than the model's context and lost their beginning.
    TruncatedInputs,
    /// `config.json` ties a head that the weights hold separately.
    UntiedHead,
    /// The model names code of its own, which was not run.
    CodeNotRun,
    /// Experts that no calibration token was sent to were pruned by magnitude.
    UnseenExperts,
}
