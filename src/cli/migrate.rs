//! `secateur migrate`: brings the database up to date without serving anything.

use anyhow::Context;

use crate::config::StorageArgs;
use crate::machine;
use crate::store::{self, Time};

/// Bring the database up to date; `serve` and `worker` do so too.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    storage: StorageArgs,
}

/// Applies the missing migrations.
#[expect(
    clippy::needless_pass_by_value,
    reason = "every command takes its arguments by value"
)]
pub fn run(args: Args) -> anyhow::Result<()> {
    let home = &args.storage.home;
    machine::create_private(home).with_context(|| format!("cannot create {}", home.display()))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime
        .context("cannot start the runtime")?
        .block_on(async {
            let store = store::open(&args.storage.database(), Time::Database).await?;
            store.close().await;
            Ok(())
        })
}
