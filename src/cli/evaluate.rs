//! `secateur evaluate`: measure a model as it is, or against a baseline.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;

use anyhow::bail;

use super::arguments::evaluation::EvaluationArgs;
use super::arguments::model::ModelArgument;
use super::arguments::run::RunArgs;
use super::output::bars::Bars;
use super::output::table;
use super::signals::interrupt::Interrupt;
use super::{dry_run, failure, use_threads};
use crate::pipeline;

/// Measure a model: perplexity and tasks, alone or against a baseline.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  secateur evaluate --model demo
  secateur evaluate --model pruned --baseline demo --eval-file text.txt
  secateur evaluate --model org/name --perplexity wikitext2 --tasks boolq,rte --limit 100")]
pub struct Args {
    /// A model directory, a hub id (org/name), or `demo` for the bundled model
    #[arg(long)]
    model: String,
    /// Branch, tag or commit of a hub model
    #[arg(long, default_value = "main")]
    revision: String,
    /// A model to compare with, document by document, such as the one that was pruned
    #[arg(long)]
    baseline: Option<String>,
    /// Branch, tag or commit of a baseline on the hub
    #[arg(long, default_value = "main", requires = "baseline")]
    baseline_revision: String,
    #[command(flatten)]
    evaluation: EvaluationArgs,
    /// Write the score of each document to this file, as JSON lines; must not exist
    #[arg(long, value_name = "FILE")]
    samples_out: Option<PathBuf>,
    #[command(flatten)]
    run: RunArgs,
}

/// Runs the command.
pub fn run(args: &Args) -> anyhow::Result<()> {
    // A dry run has nothing to put in order when it is stopped.
    let interrupt = (!args.run.dry_run).then(Interrupt::listen).transpose()?;
    let model = ModelArgument::find(&args.model, &args.revision)?;
    let baseline = args
        .baseline
        .as_ref()
        .map(|baseline| ModelArgument::find(baseline, &args.baseline_revision))
        .transpose()?;
    let plan = args.evaluation.plan(&model, args.run.defaults())?;
    if plan.is_empty() {
        bail!("invalid_request: nothing to measure, give --eval-file, --perplexity or --tasks");
    }
    let Some(interrupt) = interrupt else {
        use_threads(args.run.threads)?;
        let baseline = baseline.as_ref().map(|baseline| &baseline.source);
        return dry_run::of_measurement(&model.source, baseline, &plan, &args.run.device);
    };
    if let Some(path) = &args.samples_out
        && fs::symlink_metadata(path).is_ok()
    {
        bail!("output_exists: {} exists already", path.display());
    }
    use_threads(args.run.threads)?;
    let mut bars = Bars::new(interrupt.clone(), args.run.quiet);
    let request = pipeline::Evaluation {
        model: model.source.clone(),
        baseline: baseline.as_ref().map(|baseline| baseline.source.clone()),
        plan,
        device: args.run.device.clone(),
        samples: args.samples_out.clone(),
        job: None,
    };
    let report =
        pipeline::evaluate(&request, &mut bars).map_err(|error| failure(&error, &interrupt))?;
    drop(bars);
    let mut stdout = std::io::stdout().lock();
    if args.run.json {
        serde_json::to_writer_pretty(&mut stdout, &report)?;
        writeln!(stdout)?;
    } else {
        let text = table::of_results(&report.results, ["baseline", "model"]);
        write!(stdout, "{text}")?;
    }
    Ok(stdout.flush()?)
}
