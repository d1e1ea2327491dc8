//! The commands. Each has its arguments and a `run` that reads from top to bottom.

mod arguments;
pub mod compare;
pub mod demo;
mod dry_run;
pub mod evaluate;
pub mod healthcheck;
pub mod migrate;
pub mod openapi;
pub mod prune;
pub mod run_attempt;
pub mod serve;
pub mod worker;

mod output;
mod signals;
mod unfinished;

use anyhow::Context as _;

use crate::domain::ErrorCode;
use crate::pipeline::PipelineError;
use signals::interrupt::Interrupt;

/// The command ended because a signal told it to.
#[derive(Debug, thiserror::Error)]
#[error("cancelled: a signal came before the end")]
pub struct Interrupted {
    /// The exit status: 128 + the number of the signal.
    pub status: u8,
}

/// What a command says of a pipeline that did not end well.
fn failure(error: &PipelineError, interrupt: &Interrupt) -> anyhow::Error {
    match interrupt.status() {
        status if status != 0 && error.code() == ErrorCode::Cancelled => {
            Interrupted { status }.into()
        }
        _ => anyhow::anyhow!("{}: {}", error.code(), error.chain()),
    }
}

/// Starts the threads that compute; `None` = one per core.
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::ffi::OsStr;

    use clap::{Arg, Args as _, Command};

    use super::*;

    fn flags() -> Vec<Arg> {
        let commands: [fn(Command) -> Command; 7] = [
            serve::Args::augment_args,
            worker::Args::augment_args,
            migrate::Args::augment_args,
            demo::Args::augment_args,
            prune::Args::augment_args,
            evaluate::Args::augment_args,
            healthcheck::Args::augment_args,
        ];
        let commands = commands.map(|augment| augment(Command::new("any")));
        let flags = commands.iter().flat_map(Command::get_arguments);
        flags.cloned().collect()
    }

    #[test]
    fn the_settings_of_the_readme_are_those_of_the_flags() {
        let readme = include_str!("../../README.md");
        let rows: Vec<_> = readme
            .lines()
            .filter(|row| row.starts_with("| `"))
            .collect();
        let mut known = BTreeSet::new();
        for arg in flags() {
            let variable = arg.get_env().and_then(OsStr::to_str).unwrap_or_default();
            if !variable.starts_with("SECATEUR_") {
                continue;
            }
            known.insert(variable.to_owned());
            let row = rows
                .iter()
                .find(|row| row.contains(&format!("`{variable}`")));
            let row = row.unwrap_or_else(|| panic!("{variable} has no row"));
            let flag = arg.get_long().unwrap();
            let is_named = row.contains(&format!("--{flag}`")) || row.contains('…');
            assert!(is_named, "--{flag} is not in: {row}");
            if arg.get_action().takes_values() {
                for default in arg.get_default_values() {
                    let default = default.to_str().unwrap();
                    assert!(row.contains(default), "{variable} = {default}: {row}");
                }
            }
        }
        let named = rows.iter().flat_map(|row| row.split('`'));
        for name in named.filter(|name| name.starts_with("SECATEUR_")) {
            assert!(known.contains(name), "no flag has the variable {name}");
        }
    }
}
