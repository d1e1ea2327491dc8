//! `secateur evaluate`: measure a model as it is, or against a baseline.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::bail;

use super::arguments::evaluation::EvaluationArgs;
use super::arguments::model::ModelArgument;
use super::output::bars::Bars;
use super::output::table;
use super::signals::interrupt::Interrupt;
use super::use_threads;
use crate::pipeline::{self, DeviceName};

/// Measure a model: perplexity and tasks, alone or against a baseline.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A model directory, a hub id (org/name), or `demo` for the bundled model
    #[arg(long)]
    pub model: String,
    /// Branch, tag or commit of a hub model
    #[arg(long, default_value = "main")]
    pub revision: String,
    /// A model to compare with, document by document, such as the one that was pruned
    #[arg(long)]
    pub baseline: Option<String>,
    /// Branch, tag or commit of a baseline on the hub
    #[arg(long, default_value = "main", requires = "baseline")]
    pub baseline_revision: String,
    #[command(flatten)]
    pub(super) evaluation: EvaluationArgs,
    /// Write the score of each document to this file, as JSON lines
    #[arg(long, value_name = "FILE")]
    pub samples_out: Option<PathBuf>,
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
    let baseline = args
        .baseline
        .as_ref()
        .map(|baseline| ModelArgument::find(baseline, &args.baseline_revision))
        .transpose()?;
    let plan = args.evaluation.plan(&model)?;
    if plan.is_empty() {
        bail!("invalid_request: nothing to measure, give --eval-file, --perplexity or --tasks");
    }
    use_threads(args.threads)?;
    let mut bars = Bars::new(interrupt);
    let request = pipeline::Evaluation {
        model: model.source.clone(),
        baseline: baseline.as_ref().map(|baseline| baseline.source.clone()),
        plan,
        device: args.device.clone(),
        samples: args.samples_out.clone(),
    };
    let report = pipeline::evaluate(&request, &mut bars)
        .map_err(|error| anyhow::anyhow!("{}: {}", error.code(), error.chain()))?;
    drop(bars);
    let mut stdout = std::io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut stdout, &report)?;
        writeln!(stdout)?;
    } else {
        let text = table::of_results(&report.results, ["baseline", "model"]);
        write!(stdout, "{text}")?;
    }
    Ok(stdout.flush()?)
}
