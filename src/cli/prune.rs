//! `secateur prune`: one job without a server.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use super::arguments::evaluation::EvaluationArgs;
use super::arguments::model::ModelArgument;
use super::output::bars::Bars;
use super::output::table;
use super::signals::interrupt::Interrupt;
use super::use_threads;
use crate::bundled;
use crate::corpora::Excerpt;
use crate::datasets::Place;
use crate::domain::report::manifest::Manifest;
use crate::engine::{
    Goal, METHODS, MethodId, Pattern, REFINEMENTS, Recipe, RefinementId,
};
use crate::pipeline::{self, CalibrationPlan, DeviceName, Plan, TextSource, Workspace};

/// Prune a model and measure what that did to it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A model directory, a hub id (org/name), or `demo` for the bundled model
    #[arg(long)]
    pub model: String,
    /// Branch, tag or commit of a hub model
    #[arg(long, default_value = "main")]
    pub revision: String,
    /// How weights are ranked
    #[arg(long, default_value_t, help = method_help())]
    pub method: MethodId,
    /// Change the mask of the method, and keep its count
    #[arg(long, help = refinement_help())]
    pub refine: Option<RefinementId>,
    /// Fit the kept weights to the dense outputs of their linear
    #[arg(long)]
    pub refit: bool,
    /// Fraction of zeros, in [0, 1); with an N:M pattern it may be left out
    #[arg(long)]
    pub sparsity: Option<f64>,
    /// `unstructured`, or `N:M` to keep N of every M
    #[arg(long, default_value_t)]
    pub pattern: Pattern,
    /// Text to draw calibration windows from: plain text, .jsonl or .jsonl.gz
    #[arg(long, conflicts_with = "calibration_ids")]
    pub calibration_file: Option<PathBuf>,
    /// The calibration windows themselves: safetensors with `input_ids` [n_samples, seq_len]
    #[arg(long)]
    pub calibration_ids: Option<PathBuf>,
    /// Number of calibration windows to draw
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub n_samples: u32,
    /// Tokens per calibration window [default: the smaller of the model's context and 2048]
    #[arg(long, value_parser = clap::value_parser!(u32).range(2..))]
    pub seq_len: Option<u32>,
    /// Seed of the calibration sampler
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    #[command(flatten)]
    pub(super) evaluation: EvaluationArgs,
    /// Where the pruned model is put; must not exist
    #[arg(long)]
    pub out: PathBuf,
    /// `cpu` or `cuda:N`
    #[arg(long, default_value = "cpu")]
    pub device: DeviceName,
    /// Threads to compute with [default: one per core]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// Print the manifest as one JSON document
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let interrupt = Interrupt::listen()?;
    let ratio = checked_ratio(args.sparsity, args.pattern)?;
    let recipe = Recipe {
        method: args.method,
        refine: args.refine,
        refit: args.refit,
    };
    if let Some(detail) = recipe.contradiction() {
        bail!("invalid_request: {detail}");
    }
    let model = ModelArgument::find(&args.model, &args.revision)?;
    let plan = Plan {
        model: model.source.clone(),
        recipe,
        goal: Goal {
            pattern: args.pattern,
            sparsity: ratio,
        },
        calibration: calibration(args, recipe, &model)?,
        evaluation: args.evaluation.plan(&model)?,
        device: args.device.clone(),
        spec: None,
    };
    use_threads(args.threads)?;
    if fs::symlink_metadata(&args.out).is_ok() {
        bail!("output_exists: {} exists already", args.out.display());
    }
    // Made beside its destination and renamed at the end: `--out` is never half-written.
    let parent = args
        .out
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let beside = tempfile::Builder::new()
        .prefix(".secateur-")
        .tempdir_in(parent)
        .with_context(|| format!("io: cannot write to {}", parent.display()))?;
    let workspace = Workspace {
        artifact: beside.path().join("artifact"),
        resume_state: None,
        is_portable: false,
        received: None,
    };
    let mut bars = Bars::new(interrupt);
    let manifest = pipeline::prune_job(&plan, &workspace, &mut bars)
        .map_err(|error| anyhow::anyhow!("{}: {}", error.code(), error.chain()))?;
    drop(bars);
    fs::rename(&workspace.artifact, &args.out)
        .with_context(|| format!("io: cannot move the artifact to {}", args.out.display()))?;
    File::open(parent)
        .and_then(|dir| dir.sync_all())
        .with_context(|| format!("io: cannot sync {}", parent.display()))?;
    show(&manifest, args).with_context(|| {
        format!(
            "io: {} is complete, but the result cannot be printed",
            args.out.display()
        )
    })
}

fn show(manifest: &Manifest, args: &Args) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut stdout, manifest)?;
        writeln!(stdout)?;
    } else {
        write!(stdout, "{}", table::of_manifest(manifest))?;
        writeln!(stdout, "\n  {}", args.out.display())?;
    }
    Ok(stdout.flush()?)
}

fn method_help() -> String {
    let names = METHODS.map(|method| method.name()).join(", ");
    format!("How weights are ranked: one of {names}")
}

fn refinement_help() -> String {
    let names = REFINEMENTS.map(|refinement| refinement.name()).join(", ");
    format!("Change the mask of the method, and keep its count: one of {names}")
}

/// The calibration windows, if the recipe reads any.
fn calibration(
    args: &Args,
    recipe: Recipe,
    model: &ModelArgument,
) -> anyhow::Result<Option<CalibrationPlan>> {
    if !recipe.needs_calibration() {
        return Ok(None);
    }
    if let Some(path) = &args.calibration_ids {
        return Ok(Some(CalibrationPlan::Given(path.clone())));
    }
    let path = args
        .calibration_file
        .clone()
        .or_else(|| model.bundled_text(bundled::CALIBRATION_TEXT));
    let Some(path) = path else {
        bail!("invalid_request: {recipe} needs --calibration-file or --calibration-ids")
    };
    Ok(Some(CalibrationPlan::Drawn {
        text: TextSource {
            name: super::file_name(&path),
            place: Place::File(path),
            excerpt: Excerpt::CALIBRATION,
        },
        n_samples: args.n_samples as usize,
        seq_len: args.seq_len.map(|len| len as usize),
        seed: args.seed,
    }))
}

fn checked_ratio(asked: Option<f64>, pattern: Pattern) -> anyhow::Result<f64> {
    match (pattern.implied_sparsity(), asked) {
        (_, Some(ratio)) if !(0.0..1.0).contains(&ratio) => {
            bail!("invalid_request: --sparsity is {ratio}, expected a fraction in [0, 1)")
        }
        (None, None) => {
            bail!("invalid_request: --sparsity is needed with the {pattern} pattern")
        }
        (Some(ratio), Some(asked)) if (asked - ratio).abs() > 1e-9 => {
            bail!(
                "invalid_request: --sparsity {asked} disagrees with the pattern {pattern}, which has {ratio}"
            )
        }
        (None, Some(ratio)) | (Some(ratio), _) => Ok(ratio),
    }
}
