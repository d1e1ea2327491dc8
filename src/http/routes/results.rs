//! `/v1/jobs/{id}/results` and `/v1/jobs/{id}/report`.

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use crate::domain::report::manifest::JobReport;
use crate::domain::report::manifest::{EvaluationReport, Manifest};
use crate::http::HttpState;
use crate::http::input::path::JobPath;
use crate::http::input::query::NoParameters;
use crate::http::output::problem::Problem;
use crate::http::output::results::ResultsView;

/// A report of either type.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[schema(as = JobReport)]
pub(super) enum ReportView {
    /// Of a job of the type `prune`: its `secateur.json`.
    Prune(Box<Manifest>),
    /// Of a job of the type `evaluate`: its `evaluation.json`.
    Evaluate(Box<EvaluationReport>),
}

/// Get the results of a job
///
/// Achieved sparsity; perplexity, tasks and their paired differences, before and after, under the same protocol; the
/// warnings of the collapse guard.
#[utoipa::path(
    get, path = "/jobs/{id}/results", tag = "results",
    params(("id" = String, Path, description = "The job")),
    responses(
        (status = 200, description = "The results", body = ResultsView),
        (status = 404, description = "`job_not_found`"),
        (status = 409, description = "`results_not_ready`"),
    )
)]
pub(super) async fn get_results(
    _: NoParameters,
    State(state): State<HttpState>,
    JobPath(id): JobPath,
) -> Result<Json<ResultsView>, Problem> {
    Ok(Json(ResultsView::whole(&state.jobs.publication(id).await?)))
}

/// Get the whole report
///
/// The artifact's `secateur.json` or `evaluation.json` with its `type`: inputs with their digests, every pruned
/// linear, what was measured, timings.
#[utoipa::path(
    get, path = "/jobs/{id}/report", tag = "results",
    params(("id" = String, Path, description = "The job")),
    responses(
        (status = 200, description = "The report", body = ReportView),
        (status = 404, description = "`job_not_found`"),
        (status = 409, description = "`results_not_ready`"),
    )
)]
pub(super) async fn get_report(
    _: NoParameters,
    State(state): State<HttpState>,
    JobPath(id): JobPath,
) -> Result<Json<ReportView>, Problem> {
    let report = match state.jobs.publication(id).await?.report {
        JobReport::Prune(manifest) => ReportView::Prune(manifest),
        JobReport::Evaluate(report) => ReportView::Evaluate(report),
    };
    Ok(Json(report))
}
