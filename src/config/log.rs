//! Logs and traces.

use clap::{Args, ValueEnum};
use reqwest::Url;

/// Logs and traces.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Logs and traces")]
pub struct LogArgs {
    /// Levels to log, such as `info` or `secateur=debug,warn`
    #[arg(
        long,
        value_name = "FILTER",
        env = "SECATEUR_LOG",
        default_value = "info"
    )]
    pub log: String,

    /// Format of the log
    #[arg(
        long,
        value_name = "FORMAT",
        env = "SECATEUR_LOG_FORMAT",
        default_value = "text"
    )]
    pub log_format: LogFormat,

    /// Collector that receives traces, as OTLP over HTTP, such as `http://localhost:4318`; none unless given
    #[arg(long, value_name = "URL", env = "OTEL_EXPORTER_OTLP_ENDPOINT")]
    pub otlp_endpoint: Option<Url>,

    /// Name of this program in traces
    #[arg(
        long,
        value_name = "NAME",
        env = "OTEL_SERVICE_NAME",
        default_value = "secateur"
    )]
    pub otlp_service_name: String,
}

/// The format of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}
