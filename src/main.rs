//! The `secateur` program.

use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser};
use secateur::cli;
use secateur::config::read_leniently;

/// Keeps freed memory for reuse: a forward pass allocates and frees the same large buffers over and over, and giving
/// them back to the system costs more than the arithmetic on them. docs/PERFORMANCE.md has the measurement.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[expect(
    unsafe_code,
    reason = "jemalloc reads its settings from a symbol of this name"
)]
// SAFETY: the name is jemalloc's own and nothing else in this program defines it.
#[unsafe(export_name = "_rjem_malloc_conf")]
static ALLOCATOR_SETTINGS: &u8 =
    &b"retain:true,dirty_decay_ms:-1,muzzy_decay_ms:-1,thp:always,oversize_threshold:0\0"[0];

/// Prunes large language models, proves what that did, and hands back a model that loads.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, after_help = EXAMPLES)]
enum Command {
    Serve(cli::serve::Args),
    Worker(cli::worker::Args),
    Prune(cli::prune::Args),
    Evaluate(cli::evaluate::Args),
    Compare(cli::compare::Args),
    Demo(cli::demo::Args),
    Migrate(cli::migrate::Args),
    Openapi(cli::openapi::Args),
    Healthcheck(cli::healthcheck::Args),
    #[command(hide = true)]
    RunAttempt(cli::run_attempt::Args),
}

const EXAMPLES: &str = "Examples:
  secateur demo
  secateur serve
  secateur prune --model demo --sparsity 0.5 --out pruned
  secateur compare pruned";

fn main() -> ExitCode {
    let matches = read_leniently(Command::command()).get_matches();
    // Wrong usage ends here, with status 2.
    let command = Command::from_arg_matches(&matches).unwrap_or_else(|wrong| wrong.exit());
    match run(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

/// One line on standard error, and the exit status.
#[expect(
    clippy::print_stderr,
    reason = "the line that says why the program ends"
)]
fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {}", format!("{error:#}").replace('\n', " "));
    let interrupted = error.downcast_ref::<cli::Interrupted>();
    ExitCode::from(interrupted.map_or(1, |interrupted| interrupted.status))
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Serve(args) => cli::serve::run(args),
        Command::Worker(args) => cli::worker::run(args),
        Command::Prune(args) => cli::prune::run(&args),
        Command::Evaluate(args) => cli::evaluate::run(&args),
        Command::Compare(args) => cli::compare::run(&args),
        Command::Demo(args) => cli::demo::run(args),
        Command::Migrate(args) => cli::migrate::run(args),
        Command::Openapi(args) => cli::openapi::run(args),
        Command::Healthcheck(args) => cli::healthcheck::run(args),
        Command::RunAttempt(args) => cli::run_attempt::run(&args),
    }
}
