//! `/v1/jobs/{id}/results` and `/v1/jobs/{id}/report`.

use axum::Json;
use axum::extract::State;

use super::HttpState;
use super::error::ApiError;
use super::extract::{JobPath, NoParameters};
use super::view::ResultsView;
use crate::domain::Manifest;

/// Get what a job brought
///
/// Achieved sparsity, and perplexity of the dense and of the pruned model under the same protocol.
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
) -> Result<Json<ResultsView>, ApiError> {
    Ok(Json(ResultsView::new(
        state.jobs.publication(id).await?.outcome(),
    )))
}

/// Get the whole report
///
/// The same document as the artifact's `secateur.json`: inputs with their digests, every pruned linear, timings.
#[utoipa::path(
    get, path = "/jobs/{id}/report", tag = "results",
    params(("id" = String, Path, description = "The job")),
    responses(
        (status = 200, description = "The report", body = Manifest),
        (status = 404, description = "`job_not_found`"),
        (status = 409, description = "`results_not_ready`"),
    )
)]
pub(super) async fn get_report(
    _: NoParameters,
    State(state): State<HttpState>,
    JobPath(id): JobPath,
) -> Result<Json<Manifest>, ApiError> {
    Ok(Json(state.jobs.publication(id).await?.manifest))
}
