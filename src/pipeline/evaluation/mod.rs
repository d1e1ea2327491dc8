//! Perplexity, tasks and fixed prompts, before and after, on the files that are delivered: models are read from disk.
//!
//! [`Prepared`] (everything read and tokenised) → [`measure`](measure::measure) (what the models make of it) →
//! [`compare`](compare::compare) (differences, intervals, warnings).

mod cache;
mod compare;
mod encode;
mod measure;
mod prepare;
mod progress;
mod samples;
mod score;
mod task;

use std::path::Path;

use candle_core::Device;

use super::plan::EvaluationPlan;
use super::{Listener, PipelineError};
use crate::domain::report::results::Results;
use cache::ScoreCache;
pub(super) use measure::Subject;
pub(super) use prepare::Prepared;

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
        compare::compare(self.prepared, &measured, &self.plan.spec.guard)
    }
}
