//! The commands. Each is a `run` that reads top to bottom.

pub mod evaluate;
pub mod prune;
pub mod run_attempt;

mod bars;
mod interrupt;
mod model_argument;
mod table;

use anyhow::Context as _;

/// Computes with so many threads; `None` = as many as there are cores.
fn use_threads(threads: Option<usize>) -> anyhow::Result<()> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads.unwrap_or(0))
        .build_global()
        .context("cannot start the computing threads")
}
