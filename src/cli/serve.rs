//! `secateur serve`: the API with its own worker pool.

use anyhow::Context;

use super::signals::StopSignals;
use crate::config::{LogArgs, ServerConfig};
use crate::{app, telemetry};

/// Serve the API and run the jobs.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  secateur serve
  secateur serve --listen 8485 --models-dir /models --memory-bytes 16G")]
pub struct Args {
    #[command(flatten)]
    config: ServerConfig,
    #[command(flatten)]
    log: LogArgs,
}

/// Runs until a signal stops it.
pub fn run(args: Args) -> anyhow::Result<()> {
    let _traces = telemetry::start(&args.log)?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    runtime.block_on(async {
        let mut signals = StopSignals::listen()?;
        let app = app::start(args.config).await?;
        signals.next().await;
        tracing::info!("stopping; a second signal ends at once");
        signals.or_exit(app.shutdown()).await
    })
}
