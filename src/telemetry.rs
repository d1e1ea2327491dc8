//! Logs and metrics of the process.
//!
//! Ids are fields, not part of the text: `request.id`, `job.id`, `job.attempt`, `worker.id`. A failure is logged
//! once, where it is handled.

use std::io::IsTerminal;
use std::sync::OnceLock;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

/// Seconds: a phase, and the wait before the first one, take from a moment to hours.
const JOB_BUCKETS: &[f64] = &[
    0.1, 1.0, 5.0, 30.0, 120.0, 600.0, 1800.0, 3600.0, 10_800.0, 21_600.0,
];

/// Seconds, as OpenTelemetry proposes.
const REQUEST_BUCKETS: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];

/// Sends the log to standard error: to people or, with `json`, to programs.
pub fn start_logging(filter: &str, json: bool) -> Result<(), ParseError> {
    let filter = EnvFilter::try_new(filter)?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    if json {
        builder.json().flatten_event(true).init();
    } else {
        builder.with_ansi(std::io::stderr().is_terminal()).init();
    }
    Ok(())
}

/// The recorder could not be installed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("cannot collect metrics: {0}")]
pub struct MetricsError(String);

/// The metrics of the process. They are collected once, however many servers it holds.
pub fn start_metrics() -> Result<PrometheusHandle, MetricsError> {
    static HANDLE: OnceLock<Result<PrometheusHandle, MetricsError>> = OnceLock::new();
    HANDLE
        .get_or_init(|| install().map_err(|error| MetricsError(error.to_string())))
        .clone()
}

fn install() -> Result<PrometheusHandle, BuildError> {
    let phases = Matcher::Full("secateur_job_phase_duration_seconds".to_owned());
    let waits = Matcher::Full("secateur_job_queue_wait_seconds".to_owned());
    let requests = Matcher::Full("http_server_request_duration_seconds".to_owned());
    PrometheusBuilder::new()
        .set_buckets_for_metric(phases, JOB_BUCKETS)?
        .set_buckets_for_metric(waits, JOB_BUCKETS)?
        .set_buckets_for_metric(requests, REQUEST_BUCKETS)?
        .install_recorder()
}
