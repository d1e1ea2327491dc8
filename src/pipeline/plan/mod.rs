//! What a job shall do, with every name resolved to a place: the common form of a service's job and a command line.

mod evaluation;
mod hidden;
mod model;

use std::path::PathBuf;

use super::{DeviceName, PipelineError};
use crate::corpora::{Excerpt, Use};
use crate::datasets::{DataRoots, DatasetNotFound, Place};
use crate::domain::attempt::AttemptSpec;
use crate::domain::spec::{CalibrationSpec, PruneSpec};
use crate::domain::{ErrorCode, HubReach};
use crate::engine::{ModelPlan, Pruning};
pub use evaluation::{EvaluationPlan, TaskSource};
pub use hidden::hidden_dirs;
pub use model::ModelSource;

/// One job's work.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The model.
    pub model: ModelSource,
    /// What is done to it.
    pub pruning: Pruning,
    /// What activations are observed on; `None` where none are.
    pub calibration: Option<CalibrationPlan>,
    /// What is measured.
    pub evaluation: EvaluationPlan,
    /// Where it is computed.
    pub device: DeviceName,
    /// The job this plan was made from, for the manifest.
    pub spec: Option<PruneSpec>,
}

/// The windows that activations are observed on.
#[derive(Debug, Clone)]
pub enum CalibrationPlan {
    /// Windows drawn from a text.
    Drawn {
        /// The text.
        text: TextSource,
        /// Number of windows.
        n_samples: usize,
        /// Tokens per window; `None` = the smaller of the model's context and 2048.
        seq_len: Option<usize>,
        /// Seed of the sampler.
        seed: u64,
    },
    /// A safetensors file with the windows themselves.
    Given(PathBuf),
}

/// A text to calibrate or to measure on.
#[derive(Debug, Clone)]
pub struct TextSource {
    /// Its name in the manifest.
    pub name: String,
    /// Where it is.
    pub place: Place,
    /// The part of it that is read.
    pub excerpt: Excerpt,
}

impl Plan {
    /// The plan of an attempt at a service's job of the type `prune`.
    pub fn of_attempt(attempt: &AttemptSpec, spec: &PruneSpec) -> Result<Self, PipelineError> {
        let roots = data_roots(attempt);
        let calibration = spec.calibration_in_use();
        let calibration =
            calibration.map(|calibration| CalibrationPlan::locate(calibration, &roots));
        Ok(Self {
            model: ModelSource::of_attempt(attempt, &spec.model)?,
            pruning: spec.pruning(),
            calibration: calibration.transpose()?,
            evaluation: EvaluationPlan::of_attempt(attempt, &spec.evaluation)?,
            device: DeviceName::of_attempt(attempt)?,
            spec: Some(spec.clone()),
        })
    }
}

impl Plan {
    /// Whether texts are made into tokens.
    pub(super) fn needs_tokens(&self) -> bool {
        let is_drawn = |plan: &CalibrationPlan| matches!(plan, CalibrationPlan::Drawn { .. });
        self.calibration.as_ref().is_some_and(is_drawn) || !self.evaluation.is_empty()
    }
}

impl CalibrationPlan {
    fn locate(spec: &CalibrationSpec, roots: &DataRoots) -> Result<Self, DatasetNotFound> {
        Ok(Self::Drawn {
            text: TextSource {
                name: spec.dataset.name().to_owned(),
                place: roots.locate(&spec.dataset, Use::Calibration)?,
                excerpt: Excerpt::CALIBRATION,
            },
            n_samples: spec.n_samples,
            seq_len: spec.seq_len,
            seed: spec.seed,
        })
    }

    /// Where the text lies that windows are drawn from.
    pub(super) fn place(&self) -> Option<&Place> {
        match self {
            Self::Drawn { text, .. } => Some(&text.place),
            Self::Given(_) => None,
        }
    }
}

/// Where the data sets of an attempt lie.
fn data_roots(attempt: &AttemptSpec) -> DataRoots {
    DataRoots {
        data_dir: attempt.data_dir.clone(),
        bundled_dir: attempt.bundled_dir.clone(),
        // HF_HUB_OFFLINE is respected when files are fetched.
        hub: HubReach::Online,
    }
}

/// The length of windows for this model.
pub(super) fn window_len(
    asked: Option<usize>,
    model_plan: &ModelPlan,
) -> Result<usize, PipelineError> {
    let longest = model_plan.max_seq_len;
    match asked {
        Some(len) if len > longest => Err(PipelineError::refused(
            ErrorCode::SeqLenTooLong,
            format!("windows of {len} tokens are longer than the model's context of {longest}"),
        )),
        Some(len) => Ok(len),
        None => Ok(model_plan.default_seq_len()),
    }
}
