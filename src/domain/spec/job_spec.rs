//! The kinds of jobs, and what is common to them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::evaluation::EvaluationSpec;
use super::method::{self, MethodObject};
use super::model::ModelRef;
use super::targets::{AllocationObject, RuleObject};
use crate::corpora::DatasetRef;
use crate::domain::JobId;
use crate::engine::{
    AllocationSpec, ComparisonGroup, Goal, LinearRule, Pattern, Propagation, Pruning,
    PruningMethod, RefinementId, Targets,
};

/// The kind of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobType {
    /// Prunes a model and measures it before and after.
    Prune,
    /// Measures a model, or two against each other.
    Evaluate,
}

impl JobType {
    /// Every kind.
    pub const ALL: [Self; 2] = [Self::Prune, Self::Evaluate];

    /// The word on the wire and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Prune => "prune",
            Self::Evaluate => "evaluate",
        }
    }
}

impl FromStr for JobType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|kind| kind.as_str() == text);
        found.ok_or_else(|| format!("unknown type {text:?}, expected prune or evaluate"))
    }
}

impl fmt::Display for JobType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which token windows the activations are observed on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CalibrationSpec {
    /// The corpus.
    #[serde(flatten)]
    pub dataset: DatasetRef,
    /// Number of windows.
    pub n_samples: usize,
    /// Tokens per window; `null` = the smaller of the model's context and 2048.
    pub seq_len: Option<usize>,
    /// Seed of the sampler.
    pub seed: u64,
}

/// Which model is pruned, how, and what is measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PruneSpec {
    /// The model.
    pub model: ModelRef,
    /// How weights, or parts of the model, are ranked.
    #[serde(with = "method")]
    #[schema(value_type = MethodObject)]
    pub method: PruningMethod,
    /// Whose scores the method compares where the pattern is unstructured; `null` = as it does by itself.
    #[serde(default)]
    #[schema(value_type = Option<String>, example = "row")]
    pub group: Option<ComparisonGroup>,
    /// What changes the mask of the method, and keeps its count.
    #[serde(default)]
    #[schema(value_type = Option<String>, example = "swaps")]
    pub refine: Option<RefinementId>,
    /// Whether the kept weights are fitted to the dense outputs of their linear.
    #[serde(default)]
    pub refit: bool,
    /// Where the inputs come from that linears are pruned by.
    #[serde(default)]
    #[schema(value_type = String, example = "pruned")]
    pub propagation: Propagation,
    /// Fraction asked for, in [0, 1): of zeros of the linears that no rule names, or of the parts that are removed.
    pub sparsity: f64,
    /// Which positions may become zero.
    #[schema(value_type = String, example = "2:4")]
    pub pattern: Pattern,
    /// What is asked of linears by their names; the first rule that matches counts.
    #[serde(default)]
    #[schema(value_type = Vec<RuleObject>)]
    pub rules: Vec<LinearRule>,
    /// How the zeros of the other linears are shared among blocks.
    #[serde(default)]
    #[schema(value_type = AllocationObject)]
    pub allocation: AllocationSpec,
    /// The calibration windows.
    pub calibration: CalibrationSpec,
    /// What is measured.
    pub evaluation: EvaluationSpec,
}

impl PruneSpec {
    /// What is done to the model.
    pub fn pruning(&self) -> Pruning {
        Pruning {
            method: self.method,
            group: self.group,
            refine: self.refine,
            refit: self.refit,
            propagation: self.propagation,
            targets: Targets {
                goal: Goal::new(self.pattern, self.sparsity),
                rules: self.rules.clone(),
                allocation: self.allocation.clone(),
            },
        }
    }

    /// The calibration windows, if any are read.
    pub fn calibration_in_use(&self) -> Option<&CalibrationSpec> {
        self.pruning()
            .needs_calibration()
            .then_some(&self.calibration)
    }
}

/// A measurement without pruning.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EvaluateSpec {
    /// The model.
    pub model: ModelRef,
    /// What it is compared with.
    pub baseline: Option<ModelRef>,
    /// What is measured.
    pub evaluation: EvaluationSpec,
}

/// A complete, checked job description, with every default filled in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum JobSpec {
    /// Prune a model and measure it before and after.
    Prune(PruneSpec),
    /// Measure a model, or two against each other.
    Evaluate(EvaluateSpec),
}

impl JobSpec {
    /// Its kind.
    pub fn job_type(&self) -> JobType {
        match self {
            Self::Prune(_) => JobType::Prune,
            Self::Evaluate(_) => JobType::Evaluate,
        }
    }

    /// The model that the job is about.
    pub fn model(&self) -> &ModelRef {
        match self {
            Self::Prune(spec) => &spec.model,
            Self::Evaluate(spec) => &spec.model,
        }
    }

    /// Every model that the job reads, each with the JSON pointer of its field.
    pub fn models(&self) -> Vec<(&'static str, &ModelRef)> {
        let baseline = match self {
            Self::Prune(_) => None,
            Self::Evaluate(spec) => spec.baseline.as_ref(),
        };
        let baseline = baseline.map(|baseline| ("/baseline", baseline));
        [("/model", self.model())]
            .into_iter()
            .chain(baseline)
            .collect()
    }

    /// Every job whose artifact is read, each with the JSON pointer of its field.
    pub fn source_jobs(&self) -> Vec<(&'static str, JobId)> {
        let models = self.models().into_iter();
        let jobs = models.filter_map(|(pointer, model)| match model {
            ModelRef::Job { id } => Some((pointer, *id)),
            ModelRef::Hub { .. } | ModelRef::Local { .. } => None,
        });
        jobs.collect()
    }

    /// What is measured.
    pub fn evaluation(&self) -> &EvaluationSpec {
        match self {
            Self::Prune(spec) => &spec.evaluation,
            Self::Evaluate(spec) => &spec.evaluation,
        }
    }

    /// How weights or parts are ranked, where a model is pruned.
    pub fn method(&self) -> Option<PruningMethod> {
        match self {
            Self::Prune(spec) => Some(spec.method),
            Self::Evaluate(_) => None,
        }
    }

    /// Whether texts are made into tokens.
    pub fn needs_tokens(&self) -> bool {
        let calibrates = matches!(self, Self::Prune(spec) if spec.calibration_in_use().is_some());
        calibrates || !self.evaluation().is_empty()
    }

    /// Whether there are two models to compare, and so a `before` beside each `after`.
    pub fn is_comparison(&self) -> bool {
        match self {
            Self::Prune(_) => true,
            Self::Evaluate(spec) => spec.baseline.is_some(),
        }
    }
}
