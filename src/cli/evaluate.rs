//! `secateur evaluate`: measure a model as it is.

use std::io::Write as _;

use anyhow::bail;

use super::bars::Bars;
use super::interrupt::Interrupt;
use super::model_argument::ModelArgument;
use super::prune::EvaluationArgs;
use super::{table, use_threads};
use crate::pipeline::{self, DeviceName};

/// Measure the perplexity of a model.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A model directory, a hub id (org/name), or `demo` for the bundled model
    #[arg(long)]
    pub model: String,
    /// Branch, tag or commit of a hub model
    #[arg(long, default_value = "main")]
    pub revision: String,
    #[command(flatten)]
    pub(super) evaluation: EvaluationArgs,
    /// `cpu` or `cuda:N`
    #[arg(long, default_value = "cpu")]
    pub device: DeviceName,
    /// Threads to compute with [default: one per core]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// Print the results as one JSON document
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let interrupt = Interrupt::listen()?;
    let model = ModelArgument::find(&args.model, &args.revision)?;
    let plan = args.evaluation.plan(&model);
    if plan.texts.is_empty() {
        bail!("invalid_request: nothing to measure on, give --eval-file");
    }
    use_threads(args.threads)?;
    let mut bars = Bars::new(interrupt);
    let report = pipeline::evaluate(&model.source, &plan, &args.device, &mut bars)
        .map_err(|error| anyhow::anyhow!("{}: {}", error.code(), error.chain()))?;
    drop(bars);
    let mut stdout = std::io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut stdout, &report)?;
        writeln!(stdout)?;
    } else {
        write!(
            stdout,
            "{}",
            table::of_evaluation(&report.results.perplexity)
        )?;
    }
    Ok(stdout.flush()?)
}
