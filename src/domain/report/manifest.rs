//! `secateur.json`: what was done to a model, with which inputs, and what came out.
//!
//! The same document is the artifact's provenance file, the answer of `GET /v1/jobs/{id}/report`, and what
//! `secateur prune --json` prints.

use serde::{Deserialize, Serialize};

use super::results::Results;
use crate::domain::spec::{AllocationObject, JobType, PruneSpec, RuleObject};
use crate::engine::{AllocationSpec, ComparisonGroup, LinearRule, Propagation};

/// The version of this document's layout.
pub const MANIFEST_VERSION: u32 = 1;

/// The whole document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Manifest {
    /// [`MANIFEST_VERSION`].
    pub manifest_version: u32,
    /// Version of the program that wrote it.
    pub tool_version: String,
    /// SHA-256 over the artifact's weight files (names, then digests, sorted): equal for equal weights.
    pub digest: String,
    /// Where the model came from.
    pub model: ModelProvenance,
    /// What was asked for; `null` where the command line took files instead of registered data sets.
    pub spec: Option<PruneSpec>,
    /// The method's name.
    pub method: String,
    /// Whose scores were compared where the pattern is unstructured; `null` = as the method does by itself.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub group: Option<ComparisonGroup>,
    /// The name of what changed the mask of the method; `null` for nothing.
    #[serde(default)]
    pub refine: Option<String>,
    /// Whether the kept weights were fitted to the dense outputs.
    #[serde(default)]
    pub refit: bool,
    /// Where the inputs came from that linears were pruned by.
    #[serde(default)]
    #[schema(value_type = String)]
    pub propagation: Propagation,
    /// `unstructured` or `N:M`; says nothing where parts were removed.
    pub pattern: String,
    /// What was asked of linears by their names.
    #[serde(default)]
    #[schema(value_type = Vec<RuleObject>)]
    pub rules: Vec<LinearRule>,
    /// How the zeros of the other linears were shared among blocks.
    #[serde(default)]
    #[schema(value_type = AllocationObject)]
    pub allocation: AllocationSpec,
    /// The fraction of zeros of each block, counted in the written tensors; empty in documents of earlier versions.
    #[serde(default)]
    pub block_sparsity: Vec<f64>,
    /// Over all linears of the blocks; where parts were removed, over these.
    pub sparsity: Sparsity,
    /// Which parts were removed; `null` where linears were pruned.
    #[serde(default)]
    pub structure: Option<StructureReport>,
    /// The windows that activations were observed on; `null` where the method observes none.
    pub calibration: Option<Calibration>,
    /// Every linear of the blocks that are left, in order.
    pub linears: Vec<LinearReport>,
    /// What was measured.
    pub results: Results,
    /// Where and how it was computed.
    pub device: String,
    /// The dtype of the computation, such as `f32`.
    pub compute_dtype: String,
    /// Seconds per phase, and `total`.
    pub timings_s: std::collections::BTreeMap<String, f64>,
    /// Peak resident memory of the process.
    pub peak_rss_bytes: u64,
    /// Every file of the artifact but this one.
    pub files: Vec<FileEntry>,
}

/// A measurement without pruning: what `secateur evaluate --json` prints, and the report of a job of the type `evaluate`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EvaluationReport {
    /// Version of the program that measured.
    pub tool_version: String,
    /// The model: its numbers stand in `after`.
    pub model: ModelProvenance,
    /// What it is compared with: its numbers stand in `before`.
    pub baseline: Option<ModelProvenance>,
    /// What was measured.
    pub results: Results,
    /// Where it was computed.
    pub device: String,
    /// The dtype of the computation.
    pub compute_dtype: String,
    /// Seconds per phase, and `total`.
    pub timings_s: std::collections::BTreeMap<String, f64>,
    /// Peak resident memory of the process.
    pub peak_rss_bytes: u64,
}

/// What a succeeded job was for, and what it brought: the whole document, of either type.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobReport {
    /// Of a job of the type `prune`.
    Prune(Box<Manifest>),
    /// Of a job of the type `evaluate`.
    Evaluate(Box<EvaluationReport>),
}

impl JobReport {
    /// The type of the job that it is of.
    pub fn job_type(&self) -> JobType {
        match self {
            Self::Prune(_) => JobType::Prune,
            Self::Evaluate(_) => JobType::Evaluate,
        }
    }

    /// What was measured.
    pub fn results(&self) -> &Results {
        match self {
            Self::Prune(manifest) => &manifest.results,
            Self::Evaluate(report) => &report.results,
        }
    }

    /// SHA-256 over the weight files that were written.
    pub fn digest(&self) -> Option<&str> {
        match self {
            Self::Prune(manifest) => Some(&manifest.digest),
            Self::Evaluate(_) => None,
        }
    }

    /// Requested and achieved.
    pub fn sparsity(&self) -> Option<Sparsity> {
        match self {
            Self::Prune(manifest) => Some(manifest.sparsity),
            Self::Evaluate(_) => None,
        }
    }

    /// Whether there are two models, and so a `before` beside each `after`.
    pub fn is_comparison(&self) -> bool {
        match self {
            Self::Prune(_) => true,
            Self::Evaluate(report) => report.baseline.is_some(),
        }
    }
}

/// Where the model came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ModelProvenance {
    /// `hub`, `local` or `job`.
    pub source: String,
    /// The id that was asked for.
    pub id: String,
    /// The hub's commit; `null` for local models.
    pub commit: Option<String>,
    /// The architecture named in `config.json`.
    pub architecture: String,
    /// Number of decoder blocks.
    pub blocks: usize,
    /// Number of weights in all tensors.
    pub parameters: u64,
    /// Bytes of the weight files.
    pub size_bytes: u64,
    /// SHA-256 of each weight file of the source.
    pub files: Vec<FileEntry>,
}

/// Whole parts that were removed, and what that brought.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct StructureReport {
    /// Every part of the dense model, in order: with the ranks, what any other sparsity would have removed.
    pub parts: Vec<PartReport>,
    /// The dense model.
    pub before: ModelSize,
    /// The artifact.
    pub after: ModelSize,
}

/// A part of the dense model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PartReport {
    /// The module's name in the dense model.
    pub name: String,
    /// By which it was ranked; of a block, 1 minus the mean cosine of its input and its output.
    pub score: f64,
    /// Its place in the order of removal, from 0.
    pub rank: usize,
    /// The module's name in the artifact; `null` = it was removed.
    pub new_name: Option<String>,
}

/// How large and how fast a model is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ModelSize {
    /// Number of weights in all tensors.
    pub parameters: u64,
    /// Bytes of the weight files.
    pub size_bytes: u64,
    /// Through all blocks, on this device, of one batch of the calibration windows.
    pub tokens_per_second: f64,
}

/// Fractions of zeros over all linears of the blocks, or of the parts that were removed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Sparsity {
    /// Asked for, of the linears that no rule names.
    pub requested: f64,
    /// Counted in the written tensors, or in the parts that are left.
    pub achieved: f64,
}

/// The calibration windows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Calibration {
    /// Name or file.
    pub dataset: String,
    /// SHA-256 of the text it was drawn from; `null` when token ids were given.
    pub text_sha256: Option<String>,
    /// `paper` or `given`.
    pub sampler: String,
    /// Number of windows.
    pub n_samples: usize,
    /// Tokens per window.
    pub seq_len: usize,
    /// Seed of the sampler; `null` when token ids were given.
    pub seed: Option<u64>,
    /// SHA-256 of the ids, row by row, as little-endian 64-bit integers.
    pub window_sha256: String,
    /// The same of `n_samples`, `seq_len` and the ids; `null` in documents of earlier versions.
    #[serde(default)]
    pub shaped_window_sha256: Option<String>,
}

/// One linear.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LinearReport {
    /// Name of its tensor without `.weight`.
    pub name: String,
    /// Output features.
    pub rows: usize,
    /// Input features.
    pub cols: usize,
    /// Zeros in the written tensor.
    pub zeros: u64,
    /// Calibration tokens that its input was observed on: of an expert those that were sent to it; `null` where none are
    /// read. Without any, the zeros were chosen by magnitude.
    #[serde(default)]
    pub input_tokens: Option<u64>,
    /// `‖(W − W′)X‖² / ‖WX‖²` on the calibration tokens, `W` dense and `W′` as written; `null` where neither the
    /// method nor the refit needs Gram matrices.
    #[serde(default)]
    pub layer_error: Option<f64>,
    /// The same before the kept weights were fitted; `null` where they were not.
    #[serde(default)]
    pub layer_error_before_refit: Option<f64>,
    /// How often the damping of a matrix had to grow before it could be factored.
    #[serde(default)]
    pub damping_steps: usize,
}

/// One file, by content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct FileEntry {
    /// Its name within the directory.
    pub name: String,
    /// Its length.
    pub size_bytes: u64,
    /// Its SHA-256, in hexadecimal.
    pub sha256: String,
}
