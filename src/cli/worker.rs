//! `secateur worker`: the worker pool alone, on the directory of a server.

use std::net::SocketAddr;

use anyhow::Context;

use super::signals::StopSignals;
use crate::config::{self, LogArgs, StorageArgs, WorkerArgs};
use crate::{app, telemetry};

/// Run jobs for a server, besides its own worker or instead of it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  secateur worker
  secateur worker --devices cuda:0,cuda:1 --listen 8485")]
pub struct Args {
    #[command(flatten)]
    storage: StorageArgs,
    #[command(flatten)]
    worker: WorkerArgs,
    /// Address for `/livez`, `/readyz` and `/metrics` of the worker, without authentication; 127.0.0.1:8485 unless given, if
    /// it is free
    #[arg(long, value_name = "ADDRESS", env = "SECATEUR_WORKER_LISTEN", value_parser = config::address, help_heading = "Worker")]
    listen: Option<SocketAddr>,
    #[command(flatten)]
    log: LogArgs,
}

/// Runs until a signal stops it.
#[expect(
    clippy::needless_pass_by_value,
    reason = "every command takes its arguments by value"
)]
pub fn run(args: Args) -> anyhow::Result<()> {
    let _traces = telemetry::start(&args.log)?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    runtime.block_on(async {
        let mut signals = StopSignals::listen()?;
        let worker = app::start_worker(&args.storage, &args.worker, args.listen).await?;
        signals.next().await;
        tracing::info!("stopping; a second signal ends at once");
        signals.or_exit(worker.shutdown()).await;
        Ok(())
    })
}
