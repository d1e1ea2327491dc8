//! The commands. Each has its arguments and a `run` that reads from top to bottom.

pub mod demo;
pub mod evaluate;
mod evaluation_args;
mod gate;
pub mod healthcheck;
pub mod migrate;
pub mod openapi;
pub mod prune;
pub mod run_attempt;
pub mod serve;
pub mod worker;

mod bars;
mod interrupt;
mod model_argument;
mod pace;
mod progress;
mod signals;
mod table;

use anyhow::Context as _;

/// Computes with so many threads; `None` = as many as there are cores.
fn use_threads(threads: Option<u16>) -> anyhow::Result<()> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(usize::from(threads.unwrap_or(0)))
        .build_global()
        .context("cannot start the computing threads")
}

/// The last part of a path, for people.
fn file_name(path: &std::path::Path) -> String {
    path.file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}
