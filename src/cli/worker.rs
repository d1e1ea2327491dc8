//! `secateur worker`: the worker pool alone, on the directory of a server.

use std::net::SocketAddr;

use anyhow::Context;

use super::signals::StopSignals;
use crate::config::{LogArgs, StorageArgs, WorkerArgs};
use crate::{app, telemetry};

/// Run the jobs of a server that was started with `--no-worker`, or help one that runs some itself.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    storage: StorageArgs,
    #[command(flatten)]
    worker: WorkerArgs,
    /// Address on which the worker says how it is: `/livez`, `/readyz` and `/metrics`, for whoever reaches it; none unless given
    #[arg(long, value_name = "ADDRESS", env = "SECATEUR_WORKER_LISTEN")]
    listen: Option<SocketAddr>,
    #[command(flatten)]
    log: LogArgs,
}

/// Runs until it is told to stop.
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
