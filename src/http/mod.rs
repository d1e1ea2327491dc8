//! The HTTP interface: one file per resource, problem details for every error, a generated description.
//!
//! Knows nothing of workers and nothing of SQL: everything goes through [`Jobs`] and [`Webhooks`].

mod input;
mod middleware;
mod openapi;
mod output;
mod routes;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa_swagger_ui::SwaggerUi;

use crate::config::RequestLimits;
use crate::jobs::Jobs;
use crate::webhooks::Webhooks;
pub use middleware::origin::Hosts;
pub use openapi::document;
use output::problem::Problem;

/// Bytes of a request body.
pub const BODY_LIMIT: usize = 64 * 1024;

/// What every handler can use.
#[derive(Debug, Clone)]
pub struct HttpState {
    /// The use-cases.
    pub jobs: Jobs,
    /// The same for webhooks.
    pub webhooks: Webhooks,
    /// The devices of this server's workers; empty where it has none.
    pub devices: Arc<[String]>,
    /// The names that this server answers for.
    pub hosts: Hosts,
    /// What `/metrics` shows.
    pub metrics: Metrics,
    /// Whether it may show the gauges of the database too. Workers leave them to the API, where one process has them.
    pub has_shared_gauges: bool,
    /// What a client may take.
    pub limits: RequestLimits,
    /// Permits for streams and delayed answers.
    pub held: Arc<Semaphore>,
    /// Cancelled when the server begins to stop.
    pub stopping: CancellationToken,
}

/// The handle that renders the metrics.
#[derive(Clone)]
pub struct Metrics(pub PrometheusHandle);

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

/// Every route, with everything around it.
pub fn router(state: HttpState) -> Router {
    let hosts = state.hosts.clone();
    let limits = state.limits;
    let (documented, document) = openapi::routes().split_for_parts();
    // Clients of the platform call `/jobs`: the same handlers, not described twice.
    let (aliases, _) = routes::job_routes().split_for_parts();
    documented
        .merge(aliases)
        .merge(
            SwaggerUi::new("/docs")
                .external_url_unchecked("/openapi.json", openapi::completed(document)),
        )
        .fallback(async || Problem::route_not_found())
        .method_not_allowed_fallback(async || Problem::method_not_allowed())
        .with_state(state)
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(CatchPanicLayer::custom(middleware::request::panicked))
        .layer(axum::middleware::from_fn_with_state(
            hosts,
            middleware::origin::guard,
        ))
        .layer(axum::middleware::from_fn_with_state(
            limits,
            middleware::request::around,
        ))
}

/// The routes of a worker without an API: health and metrics only.
pub fn worker_router(state: HttpState) -> Router {
    let limits = state.limits;
    let (health, _) = routes::health_routes().split_for_parts();
    health
        .fallback(async || Problem::route_not_found())
        .method_not_allowed_fallback(async || Problem::method_not_allowed())
        .with_state(state)
        .layer(CatchPanicLayer::custom(middleware::request::panicked))
        .layer(axum::middleware::from_fn_with_state(
            limits,
            middleware::request::around,
        ))
}
