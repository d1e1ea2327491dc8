//! Perplexity, tasks and fixed prompts, before and after, on the files that are delivered: models are read from disk.
//!
//! [`Prepared`] (everything read and tokenised) → [`measure`](measure::measure) (what the models make of it) →
//! [`compare`](compare::compare) (differences, intervals, warnings).

mod cache;
mod compare;
mod encode;
mod measure;
mod pending;
mod prepare;
mod progress;
mod samples;
mod score;
mod task;

use candle_core::Device;

use super::plan::EvaluationPlan;
use super::{Listener, PipelineError, memory};
use crate::domain::report::results::Results;
use cache::ScoreCache;
pub(super) use measure::Subject;
pub(super) use prepare::Prepared;

/// How the measurement of prepared texts and tasks runs.
pub(super) struct Run<'a> {
    pub(super) plan: &'a EvaluationPlan,
    pub(super) prepared: &'a Prepared,
    pub(super) device: &'a Device,
}

impl Run<'_> {
    /// Measures every model of `after`, and `before` once with all of them.
    pub(super) fn results(
        &self,
        before: Option<&Subject<'_>>,
        after: &[Subject<'_>],
        listener: &mut dyn Listener,
    ) -> Result<Vec<Results>, PipelineError> {
        let cache = ScoreCache::open(self.plan.scores_dir.clone())?;
        // That a file cannot be written shall show before hours of measuring.
        let files = after.iter().map(|subject| match &subject.samples {
            Some(path) => Ok(Some((path, samples::create(path)?))),
            None => Ok(None),
        });
        let files = files.collect::<Result<Vec<_>, PipelineError>>()?;
        let place = (
            self.device,
            memory::measuring_bytes(self.device, self.plan.memory_bytes),
        );
        let measured = measure::measure(self.prepared, before, after, place, &cache, listener)?;
        let results = measured.iter().zip(files).map(|(measured, file)| {
            if let Some((path, file)) = file {
                samples::write(path, file, self.prepared, measured)?;
            }
            compare::compare(self.prepared, measured, &self.plan.spec.guard)
        });
        results.collect()
    }
}
