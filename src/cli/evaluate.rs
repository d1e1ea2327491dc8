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
    #[arg(long)]
    pub threads: Option<usize>,
    /// Print the results as one JSON document
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let model = ModelArgument::find(&args.model, &args.revision)?;
    let plan = args.evaluation.plan(&model);
    if plan.texts.is_empty() {
        bail!("invalid_request: nothing to measure on, give --eval-file");
    }
    use_threads(args.threads)?;
    let mut bars = Bars::new(Interrupt::listen());
    let results = pipeline::evaluate(&model.source, &plan, &args.device, &mut bars)
        .map_err(|error| anyhow::anyhow!("{}: {}", error.code(), error.chain()))?;
    drop(bars);
    let mut stdout = std::io::stdout().lock();
    if args.json {
        let document =
            serde_json::json!({ "model": args.model, "results": { "perplexity": results } });
        serde_json::to_writer_pretty(&mut stdout, &document)?;
        writeln!(stdout)?;
    } else {
        write!(stdout, "{}", table::of_evaluation(&results))?;
    }
    Ok(())
}
