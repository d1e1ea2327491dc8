//! What is measured before and after, and from where on a result is called a collapse.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::corpora::DatasetRef;
use crate::tasks::Task;

/// What is measured before and after.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EvaluationSpec {
    /// Texts to measure perplexity on; may be empty.
    pub perplexity: Vec<DatasetRef>,
    /// Tokens per window; `null` = the smaller of the model's context and 2048.
    pub seq_len: Option<usize>,
    /// The first so many windows; `null` = the whole text.
    pub windows: Option<usize>,
    /// The most tokens of each text, unless `windows` says how many windows; `null` = all.
    #[serde(default)]
    pub max_tokens: Option<usize>,
    /// Tasks, in the order they are measured; may be empty.
    #[serde(default)]
    #[schema(required)]
    pub tasks: Vec<TaskRef>,
    /// The first so many documents of each task; `null` = all.
    #[serde(default)]
    pub limit: Option<usize>,
    /// Whether a token for the beginning of text goes before a task's context.
    #[serde(default)]
    #[schema(required)]
    pub bos: BosRule,
    /// From where on a result is called a collapse.
    #[serde(default)]
    #[schema(required)]
    pub guard: Guard,
    /// Whether the models continue fixed prompts.
    #[serde(default)]
    pub generations: GenerationRule,
}

impl EvaluationSpec {
    /// Whether nothing is measured.
    pub fn is_empty(&self) -> bool {
        self.perplexity.is_empty() && self.tasks.is_empty()
    }
}

/// Names of the tasks that can be run.
pub fn task_names() -> Vec<&'static str> {
    let runnable = Task::all().iter().filter(|task| task.refusal().is_none());
    runnable.map(|task| task.name).collect()
}

/// A task and how many worked examples stand before each question.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TaskRef {
    /// A registered name, such as `boolq`.
    pub name: String,
    /// Number of worked examples.
    pub shots: usize,
}

/// Whether a token for the beginning of text goes before a context. It changes the numbers of models whose tokenizer has
/// one, such as LLaMA's, and no others.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum BosRule {
    /// As the tokenizer does by itself: lm-evaluation-harness since 0.4.9.2.
    #[default]
    Tokenizer,
    /// Never: lm-evaluation-harness before that, and so the tables of the Wanda paper.
    Never,
}

impl BosRule {
    /// Every rule.
    pub const ALL: [Self; 2] = [Self::Tokenizer, Self::Never];

    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tokenizer => "tokenizer",
            Self::Never => "never",
        }
    }
}

impl FromStr for BosRule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|rule| rule.as_str() == text);
        found.ok_or_else(|| format!("unknown rule {text:?}, expected tokenizer or never"))
    }
}

/// Whether the models continue fixed prompts.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum GenerationRule {
    /// Where it takes no longer than the measurement.
    #[default]
    Auto,
    /// In any case.
    Always,
    /// In no case.
    Never,
}

impl GenerationRule {
    /// Every rule.
    pub const ALL: [Self; 3] = [Self::Auto, Self::Always, Self::Never];

    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Always => "always",
            Self::Never => "never",
        }
    }
}

impl FromStr for GenerationRule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|rule| rule.as_str() == text);
        found.ok_or_else(|| format!("unknown rule {text:?}, expected auto, always or never"))
    }
}

/// Thresholds of the collapse guard; `null` switches one off.
///
/// A job that trips one succeeds nevertheless, with a warning that says which and by how much.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Guard {
    /// Most that perplexity may grow, as a ratio after / before.
    pub perplexity_ratio: Option<f64>,
    /// Most Kullback-Leibler divergence from the dense model, in nats per token.
    pub kl: Option<f64>,
    /// Most that the accuracy of a task may fall, in [0, 1].
    pub accuracy_drop: Option<f64>,
    /// Least that MMLU's accuracy must lie above chance, in [0, 1], if the dense model's does.
    pub mmlu_above_chance: Option<f64>,
    /// Most of a greedy continuation that may repeat what it said before, in [0, 1].
    pub repetition: Option<f64>,
}

impl Default for Guard {
    fn default() -> Self {
        Self {
            perplexity_ratio: Some(2.0),
            kl: Some(0.5),
            accuracy_drop: Some(0.1),
            mmlu_above_chance: Some(0.05),
            repetition: Some(0.5),
        }
    }
}
