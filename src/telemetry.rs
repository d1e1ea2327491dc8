//! Logs, traces and metrics of the process.
//!
//! Ids are fields, not part of the text: `request.id`, `job.id`, `job.attempt`, `worker.id`. A failure is logged
//! once, where it is handled.

use std::io::IsTerminal;
use std::sync::OnceLock;
use std::time::Duration;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use reqwest::Url;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{ParseError, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

use crate::config::{LogArgs, LogFormat};
use crate::instruments;

/// How long the end of the process waits for the collector.
const LAST_TRACES: Duration = Duration::from_secs(5);

/// Logs or traces could not be started.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// Not what `--log` takes.
    #[error("{filter:?} is no log filter")]
    Filter {
        /// As it was given.
        filter: String,
        /// What is wrong with it.
        source: ParseError,
    },
    /// The endpoint cannot be used.
    #[error("cannot send traces to {endpoint}")]
    Exporter {
        /// As it was given.
        endpoint: Url,
        /// Why.
        source: ExporterBuildError,
    },
}

/// Sends the last traces to the collector when it is dropped.
#[derive(Debug)]
pub struct Traces(SdkTracerProvider);

impl Drop for Traces {
    fn drop(&mut self) {
        if let Err(error) = self.0.shutdown_with_timeout(LAST_TRACES) {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "the last traces are lost");
        }
    }
}

/// Starts the log on standard error, and traces if there is a collector.
///
/// Call it before the runtime starts: the exporter has its own thread.
pub fn start(args: &LogArgs) -> Result<Option<Traces>, TelemetryError> {
    let filter = EnvFilter::try_new(&args.log);
    let filter = filter.map_err(|source| TelemetryError::Filter {
        filter: args.log.clone(),
        source,
    })?;
    let traces = args.otlp_endpoint.as_ref();
    let traces = traces.map(|endpoint| exporting(endpoint, &args.otlp_service_name));
    let traces = traces.transpose()?;
    let log = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let log = match args.log_format {
        LogFormat::Json => log.json().flatten_event(true).with_filter(filter).boxed(),
        LogFormat::Text => {
            let is_terminal = std::io::stderr().is_terminal();
            log.with_ansi(is_terminal).with_filter(filter).boxed()
        }
    };
    let spans = traces.as_ref().map(|Traces(provider)| {
        // Ours alone: what the exporter does itself must not be exported.
        let ours = Targets::new().with_target("secateur", LevelFilter::INFO);
        let layer = tracing_opentelemetry::layer();
        layer
            .with_tracer(provider.tracer("secateur"))
            .with_filter(ours)
    });
    tracing_subscriber::registry().with(log).with(spans).init();
    Ok(traces)
}

/// `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_TRACES_SAMPLER`, `OTEL_EXPORTER_OTLP_HEADERS` and
/// `OTEL_BSP_*` count as the OpenTelemetry SDK documents them.
fn exporting(endpoint: &Url, service_name: &str) -> Result<Traces, TelemetryError> {
    let url = format!("{}/v1/traces", endpoint.as_str().trim_end_matches('/'));
    let exporter = SpanExporter::builder().with_http().with_endpoint(url);
    let exporter = exporter
        .build()
        .map_err(|source| TelemetryError::Exporter {
            endpoint: endpoint.clone(),
            source,
        })?;
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(
            Resource::builder()
                .with_service_name(service_name.to_owned())
                .build(),
        )
        .build();
    Ok(Traces(provider))
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
    let mut builder = PrometheusBuilder::new();
    for (name, buckets) in instruments::HISTOGRAMS {
        builder = builder.set_buckets_for_metric(Matcher::Full((*name).to_owned()), buckets)?;
    }
    let handle = builder.install_recorder()?;
    instruments::describe();
    instruments::begin();
    Ok(handle)
}
