//! The routes: a file for each resource, and the tables of all of them.

mod artifacts;
mod capabilities;
mod events;
mod job_actions;
mod jobs;
mod models;
pub(in crate::http) mod operations;
mod queue;
mod results;
mod streams;
mod validate;
mod webhooks;
mod workers;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::http::HttpState;

/// Every documented route, added to `router`.
pub(in crate::http) fn all(router: OpenApiRouter<HttpState>) -> OpenApiRouter<HttpState> {
    router
        .nest("/v1", job_routes())
        .routes(routes!(streams::stream_all))
        .nest("/v1", webhook_routes())
        .nest("/v1", worker_routes())
        .nest(
            "/v1",
            OpenApiRouter::new().routes(routes!(models::list_models)),
        )
        .routes(routes!(capabilities::get_capabilities))
        .merge(health_routes())
        .routes(routes!(operations::version))
        .routes(routes!(operations::home))
}

/// Everything about jobs, relative to the version's prefix.
pub(in crate::http) fn job_routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::new()
        .routes(routes!(jobs::create_job, jobs::list_jobs))
        .routes(routes!(validate::validate_job))
        .routes(routes!(jobs::get_job, job_actions::delete_job))
        .routes(routes!(job_actions::cancel_job))
        .routes(routes!(job_actions::pause_job))
        .routes(routes!(job_actions::resume_job))
        .routes(routes!(job_actions::retry_job))
        .routes(routes!(job_actions::keep_job))
        .routes(routes!(job_actions::unkeep_job))
        .routes(routes!(events::list_events))
        .routes(routes!(streams::stream_job))
        .routes(routes!(results::get_results))
        .routes(routes!(results::get_report))
        .routes(routes!(artifacts::list_artifacts))
        .routes(routes!(artifacts::get_artifact))
        .routes(routes!(artifacts::get_archive))
}

/// Everything about webhooks, relative to the version's prefix.
fn webhook_routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::new()
        .routes(routes!(webhooks::create_webhook, webhooks::list_webhooks))
        .routes(routes!(
            webhooks::get_webhook,
            webhooks::change_webhook,
            webhooks::delete_webhook
        ))
        .routes(routes!(webhooks::rotate_secret))
        .routes(routes!(webhooks::enable_webhook))
        .routes(routes!(webhooks::test_webhook))
        .routes(routes!(webhooks::list_deliveries))
        .routes(routes!(webhooks::redeliver))
}

/// Everything about workers and the queue, relative to the version's prefix.
fn worker_routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::new()
        .routes(routes!(workers::list_workers))
        .routes(routes!(workers::get_storage))
        .routes(routes!(workers::drain_worker))
        .routes(routes!(workers::undrain_worker))
        .routes(routes!(queue::get_queue))
        .routes(routes!(queue::pause_queue))
        .routes(routes!(queue::resume_queue))
}

/// What every process answers that listens, also a worker without an API.
pub(in crate::http) fn health_routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::new()
        .routes(routes!(operations::livez))
        .routes(routes!(operations::readyz))
        .routes(routes!(operations::metrics))
}
