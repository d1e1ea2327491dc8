//! What operators and their tools ask: `/`, `/livez`, `/readyz`, `/version`, `/metrics`.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use serde::Serialize;

use crate::http::HttpState;
use crate::http::input::query::NoParameters;
use crate::instruments;
use crate::jobs::Check;

/// The paths that probes and collectors ask for by the address of a machine, whatever its names are.
pub(in crate::http) const PROBED: [&str; 3] = ["/livez", "/readyz", "/metrics"];

/// Whether jobs can be accepted now.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Readiness {
    /// Whether every check passed.
    ready: bool,
    /// Each of them.
    checks: Vec<CheckView>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Check)]
struct CheckView {
    /// What was looked at.
    name: &'static str,
    /// Whether it is as it should be.
    ok: bool,
}

/// Which program this is.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Version {
    /// Its name.
    name: &'static str,
    /// Its version.
    version: &'static str,
}

/// Find the way
///
/// A page that leads to the rest.
#[utoipa::path(get, path = "/", tag = "operations", responses((status = 200, description = "The page", body = String, content_type = "text/html")))]
pub(super) async fn home(_: NoParameters) -> Html<&'static str> {
    Html(include_str!("home.html"))
}

/// Ask whether the process lives
///
/// Depends on nothing but the process.
#[utoipa::path(get, path = "/livez", tag = "operations", responses((status = 200, description = "It does", body = String, content_type = "text/plain")))]
pub(super) async fn livez(_: NoParameters) -> &'static str {
    "ok\n"
}

/// Ask whether jobs can be accepted
///
/// Checks the database and its schema, that the data directory is writable and has space left, that the
/// bucket of artifacts, if there is one, can be reached, and that the process is not stopping. The reason of a failed check is in the log.
#[utoipa::path(
    get, path = "/readyz", tag = "operations",
    responses(
        (status = 200, description = "They can", body = Readiness),
        (status = 503, description = "They can't", body = Readiness),
    )
)]
pub(super) async fn readyz(_: NoParameters, State(state): State<HttpState>) -> Response {
    let stopping = state.stopping.is_cancelled();
    let stopping = stopping.then(|| "the process is stopping".to_owned());
    let mut checks = state.jobs.ready().await;
    checks.push(Check::new("accepting", stopping));
    for check in checks.iter().filter(|check| check.problem.is_some()) {
        tracing::warn!(%check, "not ready");
    }
    let checks: Vec<_> = checks
        .into_iter()
        .map(|check| CheckView {
            name: check.name,
            ok: check.problem.is_none(),
        })
        .collect();
    let ready = checks.iter().all(|check| check.ok);
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(Readiness { ready, checks })).into_response()
}

/// Ask which version this is
#[utoipa::path(get, path = "/version", tag = "operations", responses((status = 200, description = "Name and version", body = Version)))]
pub(super) async fn version(_: NoParameters) -> Json<Version> {
    Json(Version {
        name: env!("CARGO_PKG_NAME"),
        version: env!("CARGO_PKG_VERSION"),
    })
}

/// Read the metrics
///
/// In Prometheus' text format. The gauges of the database are those of all processes on it: one of several servers has them, so
/// that sums are right, and another one when it has not been asked for 45 to 90 seconds. A worker without an API has none of them.
#[utoipa::path(get, path = "/metrics", tag = "operations", responses((status = 200, description = "The metrics", body = String, content_type = "text/plain")))]
pub(super) async fn metrics(_: NoParameters, State(state): State<HttpState>) -> Response {
    let has_shared = state.has_shared_gauges && state.jobs.exports_shared_gauges().await;
    if has_shared {
        set_shared_gauges(&state).await;
    }
    state.jobs.set_own_gauges();
    metrics::gauge!(instruments::BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    let mut text = state.metrics.0.render();
    if !has_shared {
        // What this process had before is not so any more.
        text = without_shared(&text);
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}

fn without_shared(text: &str) -> String {
    let is_own = |line: &&str| {
        let line = line
            .trim_start_matches("# HELP ")
            .trim_start_matches("# TYPE ");
        let name = line.split(['{', ' ']).next().unwrap_or_default();
        !instruments::SHARED.contains(&name)
    };
    text.split_inclusive('\n').filter(is_own).collect()
}

async fn set_shared_gauges(state: &HttpState) {
    match state.webhooks.count_pending().await {
        Ok(count) => metrics::gauge!(instruments::WEBHOOK_OUTBOX_DEPTH).set(count as f64),
        Err(error) => {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "cannot count the webhooks to send"
            );
        }
    }
    state.jobs.set_shared_gauges().await;
}
