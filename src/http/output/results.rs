//! What a job brought, as clients see it.

use serde::Serialize;

use crate::domain::job::{Outcome, Publication};
use crate::domain::report::manifest::Sparsity;
use crate::domain::report::results::{
    GenerationResult, MeanResult, PerplexityResult, TaskResult, Warning,
};
use crate::domain::spec::JobSpec;

/// The results of a job. Within a job it is the short form.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = JobResults)]
pub(in crate::http) struct ResultsView {
    /// SHA-256 over the artifact's weight files: equal for equal weights. `null` where nothing was pruned.
    digest: Option<String>,
    /// Requested and achieved. `null` where nothing was pruned.
    sparsity: Option<Sparsity>,
    /// Before and after, per text.
    perplexity: Vec<PerplexityView>,
    /// Before and after, per task. Within a job `subjects` is left empty.
    tasks: Vec<TaskResult>,
    /// Over the tasks that have an accuracy; `null` with fewer than two.
    mean: Option<MeanResult>,
    /// What the models write after fixed prompts; not within a job.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    generations: Option<Vec<GenerationResult>>,
    /// Warnings of the collapse guard, and about the model; not within a job, which has them itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    warnings: Option<Vec<Warning>>,
    /// Number of files of the artifact.
    artifact_count: usize,
    /// Bytes of all of them.
    artifact_size_bytes: u64,
}

/// Perplexity on one text, before and after.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = JobPerplexity)]
struct PerplexityView {
    #[serde(flatten)]
    result: PerplexityResult,
    /// A perplexity that is no finite number is `null`, and this is true. `before` is `null` as well where one model was
    /// evaluated alone.
    non_finite: bool,
}

impl ResultsView {
    /// The short form.
    pub(in crate::http) fn short(outcome: Outcome, spec: &JobSpec) -> Self {
        Self::new(outcome, spec.is_comparison())
    }

    /// Everything.
    pub(in crate::http) fn whole(publication: &Publication) -> Self {
        let (report, outcome) = (&publication.report, publication.outcome());
        let results = report.results();
        Self {
            tasks: results.tasks.clone(),
            generations: Some(results.generations.clone()),
            warnings: Some(results.warnings.clone()),
            ..Self::new(outcome, report.is_comparison())
        }
    }

    fn new(outcome: Outcome, is_comparison: bool) -> Self {
        let perplexity = outcome.perplexity.into_iter();
        Self {
            digest: outcome.digest,
            sparsity: outcome.sparsity,
            perplexity: perplexity
                .map(|result| PerplexityView::new(result, is_comparison))
                .collect(),
            tasks: outcome.tasks,
            mean: outcome.mean,
            generations: None,
            warnings: None,
            artifact_count: outcome.file_count,
            artifact_size_bytes: outcome.size_bytes,
        }
    }
}

impl PerplexityView {
    fn new(result: PerplexityResult, is_comparison: bool) -> Self {
        let is_number = |perplexity: Option<f64>| perplexity.is_some_and(f64::is_finite);
        Self {
            non_finite: (is_comparison && !is_number(result.before)) || !is_number(result.after),
            result,
        }
    }
}
