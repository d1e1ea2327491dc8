//! Perplexity, tasks and fixed prompts, before and after, on the files that are delivered: models are read from disk.
//!
//! [`Prepared`] (everything read and tokenised) → [`measure`](measure::measure) (what the models make of it) →
//! [`results`](results::results) (differences, intervals, warnings).

mod cache;
mod encode;
mod measure;
mod prepare;
mod progress;
mod results;
mod samples;
mod task;

use std::path::{Path, PathBuf};

use candle_core::Device;

use super::corpora::{self, LocalFiles};
use super::plan::{DeviceName, EvaluationPlan, ModelSource};
use super::resolve::ResolvedModel;
use super::stopwatch::Stopwatch;
use super::{Listener, PipelineError, artifact, memory, resolve};
use crate::domain::attempt::Phase;
use crate::domain::manifest::{EvaluationReport, ModelProvenance};
use crate::domain::results::Results;
use crate::engine::{Checkpoint, Decoder, ModelConfig};
use cache::ScoreCache;
pub(super) use measure::Subject;
pub(super) use prepare::Prepared;

/// A measurement without pruning.
#[derive(Debug, Clone)]
pub struct Evaluation {
    /// The model.
    pub model: ModelSource,
    /// What it is compared with.
    pub baseline: Option<ModelSource>,
    /// What is measured.
    pub plan: EvaluationPlan,
    /// Where it is computed.
    pub device: DeviceName,
    /// Where the scores of single documents go.
    pub samples: Option<PathBuf>,
}

/// How the measurement of prepared texts and tasks runs.
pub(super) struct Run<'a> {
    pub(super) plan: &'a EvaluationPlan,
    pub(super) prepared: &'a Prepared,
    pub(super) device: &'a Device,
    pub(super) samples: Option<&'a Path>,
}

impl Run<'_> {
    /// Measures `after`, and `before` with it.
    pub(super) fn results(
        &self,
        before: Option<&Subject<'_>>,
        after: &Subject<'_>,
        listener: &mut dyn Listener,
    ) -> Result<Results, PipelineError> {
        let cache = ScoreCache::open(self.plan.scores_dir.clone())?;
        // That it cannot be written shall show before hours of measuring.
        let samples = self.samples.map(samples::create).transpose()?;
        let measured =
            measure::measure(self.prepared, before, after, self.device, &cache, listener)?;
        if let (Some(path), Some(file)) = (self.samples, samples) {
            samples::write(path, file, self.prepared, &measured)?;
        }
        results::results(self.prepared, &measured, &self.plan.guard)
    }
}

/// Measures a model that is not pruned here.
pub fn evaluate(
    request: &Evaluation,
    listener: &mut dyn Listener,
) -> Result<EvaluationReport, PipelineError> {
    let mut stopwatch = Stopwatch::start();
    stopwatch.enter(Phase::Resolving, listener);
    let device = request.device.open()?;
    let model = resolve::resolve(&request.model, &mut stopwatch, listener)?;
    let baseline = request
        .baseline
        .as_ref()
        .map(|baseline| resolve::resolve(baseline, &mut stopwatch, listener))
        .transpose()?;
    let files = corpora::fetch(None, &request.plan, &mut stopwatch, listener)?;
    let model = Opened::new(&model, request, &files, &device)?;
    let baseline = baseline
        .map(|baseline| Opened::new(&baseline, request, &files, &device))
        .transpose()?;
    if let Some(baseline) = &baseline {
        model.prepared.ensure_same_tokens(&baseline.prepared)?;
    }

    stopwatch.enter(Phase::Evaluating, listener);
    let run = Run {
        plan: &request.plan,
        prepared: &model.prepared,
        device: &device,
        samples: request.samples.as_deref(),
    };
    let before = baseline
        .as_ref()
        .map(|baseline| baseline.subject("baseline"));
    let results = run.results(before.as_ref(), &model.subject("model"), listener)?;
    Ok(EvaluationReport {
        tool_version: env!("CARGO_PKG_VERSION").to_owned(),
        model: model.provenance,
        baseline: baseline.map(|baseline| baseline.provenance),
        results,
        device: request.device.name(),
        compute_dtype: "f32".to_owned(),
        timings_s: stopwatch.stop(),
        peak_rss_bytes: memory::peak_rss_bytes(),
    })
}

/// A model that has been looked at, with what it shall be measured on.
struct Opened {
    dir: PathBuf,
    fingerprint: String,
    provenance: ModelProvenance,
    prepared: Prepared,
}

impl Opened {
    fn new(
        model: &ResolvedModel,
        request: &Evaluation,
        files: &LocalFiles,
        device: &Device,
    ) -> Result<Self, PipelineError> {
        let checkpoint = Checkpoint::open(&model.dir)?;
        Decoder::open(&checkpoint, device)?;
        let config = ModelConfig::read(&model.dir)?;
        let prepared = Prepared::new(&request.plan, files, &model.dir, &config, &request.device)?;
        let provenance = artifact::provenance(model, &checkpoint, &config)?;
        Ok(Self {
            dir: model.dir.clone(),
            fingerprint: artifact::model_fingerprint(&provenance.files, &config),
            provenance,
            prepared,
        })
    }

    fn subject(&self, name: &'static str) -> Subject<'_> {
        Subject {
            dir: &self.dir,
            fingerprint: self.fingerprint.clone(),
            name,
        }
    }
}
