//! `secateur prune`: one job without a server.

mod series;

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::builder::{PossibleValuesParser, TypedValueParser as _};

use super::arguments::allocation;
use super::arguments::calibration::CalibrationArgs;
use super::arguments::evaluation::EvaluationArgs;
use super::arguments::model::ModelArgument;
use super::arguments::run::RunArgs;
use super::output::bars::Bars;
use super::output::comparison::{Comparison, TableFormat};
use super::output::table;
use super::signals::interrupt::Interrupt;
use super::unfinished::Unfinished;
use super::{dry_run, failure, use_threads};
use crate::domain::report::manifest::Manifest;
use crate::engine::{
    AllocationSpec, ComparisonGroup, Goal, LinearRule, Pattern, Propagation, Pruning,
    PruningMethod, REFINEMENTS, RefinementId, Targets,
};
use crate::pipeline::{self, Plan, Workspace};
use series::{Point, points};

/// Prune a model and measure what that did to it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  secateur prune --model demo --sparsity 0.5 --out pruned
  secateur prune --model demo --pattern unstructured,2:4 --sparsity 0.5,0.6 --out series
  secateur prune --model org/name --sparsity 0.5 --perplexity wikitext2 --out pruned")]
pub struct Args {
    /// A model directory, a hub id (org/name), or `demo` for the bundled model
    #[arg(long)]
    model: String,
    /// Branch, tag or commit of a hub model
    #[arg(long, default_value = "main")]
    revision: String,
    /// Where the pruned model is put; must not exist. Several are put below it, each under its own name
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// How weights, or parts of the model, are ranked; several are pruned one after the other
    #[arg(long = "method", value_name = "NAME,…", value_delimiter = ',', default_values_t = [PruningMethod::default()], value_parser = method(), help_heading = "Pruning")]
    methods: Vec<PruningMethod>,
    /// Whose scores wanda, magnitude and ria compare where the pattern is unstructured: those of a row or of the linear
    #[arg(long, value_name = "NAME", value_parser = group(), help_heading = "Pruning")]
    group: Option<ComparisonGroup>,
    /// Change the masks of the methods, and keep their count
    #[arg(long, value_name = "NAME", value_parser = refinement(), help_heading = "Pruning")]
    refine: Option<RefinementId>,
    /// Fit the kept weights to the dense outputs of their linear
    #[arg(long, help_heading = "Pruning")]
    refit: bool,
    /// Where the inputs come from: the dense block behind the pruned ones, the dense model, or the pruned model while
    /// the kept weights are fitted to what the dense one has there
    #[arg(long, value_name = "NAME", default_value_t, value_parser = propagation(), help_heading = "Pruning")]
    propagation: Propagation,
    /// Fractions of zeros, or of the parts that are removed, in [0, 1); with N:M patterns alone they may be left out
    #[arg(
        long = "sparsity",
        value_name = "FRACTION,…",
        value_delimiter = ',',
        help_heading = "Pruning"
    )]
    sparsities: Vec<f64>,
    /// `unstructured`, or `N:M` to keep N of every M
    #[arg(long = "pattern", value_name = "PATTERN,…", value_delimiter = ',', default_values_t = [Pattern::default()], help_heading = "Pruning")]
    patterns: Vec<Pattern>,
    /// Ask something else of the linears whose names match a regular expression: a fraction of zeros, an N:M pattern, or
    /// `dense` to leave them as they are; may be repeated, and the first rule that matches counts
    #[arg(long = "rule", value_name = "REGEX=VALUE", help_heading = "Pruning")]
    rules: Vec<LinearRule>,
    /// Share the zeros among blocks: NAME, NAME,PARAMETER=NUMBER,… or a file with the sparsity of each block
    #[arg(long, value_name = "NAME|FILE", default_value_t, value_parser = allocation::parse, help_heading = "Pruning")]
    allocation: AllocationSpec,
    #[command(flatten)]
    calibration: CalibrationArgs,
    #[command(flatten)]
    evaluation: EvaluationArgs,
    #[command(flatten)]
    run: RunArgs,
}

fn method() -> impl clap::builder::TypedValueParser<Value = PruningMethod> {
    let names = PruningMethod::names();
    PossibleValuesParser::new(names).try_map(|name| name.parse::<PruningMethod>())
}

fn group() -> impl clap::builder::TypedValueParser<Value = ComparisonGroup> {
    let names = ComparisonGroup::ALL.map(ComparisonGroup::name);
    PossibleValuesParser::new(names).try_map(|name| name.parse::<ComparisonGroup>())
}

fn refinement() -> impl clap::builder::TypedValueParser<Value = RefinementId> {
    let names = REFINEMENTS.map(|refinement| refinement.name());
    PossibleValuesParser::new(names).try_map(|name| name.parse::<RefinementId>())
}

fn propagation() -> impl clap::builder::TypedValueParser<Value = Propagation> {
    let names = Propagation::ALL.map(Propagation::name);
    PossibleValuesParser::new(names).try_map(|name| name.parse::<Propagation>())
}

/// Runs the command.
pub fn run(args: &Args) -> anyhow::Result<()> {
    // A dry run has nothing to put in order when it is stopped.
    let interrupt = (!args.run.dry_run).then(Interrupt::listen).transpose()?;
    let points = points(&args.prunings(), &args.patterns, &args.sparsities)?;
    let model = ModelArgument::find(&args.model, &args.revision)?;
    let plans = plans(args, &model, &points)?;
    use_threads(args.run.threads)?;
    let Some(interrupt) = interrupt else {
        return dry_run::of_series(&plans);
    };
    if fs::symlink_metadata(&args.out).is_ok() {
        bail!("output_exists: {} exists already", args.out.display());
    }
    // Made beside its destination and renamed at the end: `--out` is never half-written.
    let parent = args
        .out
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let cannot_write = || format!("io: cannot write to {}", parent.display());
    let beside = Unfinished::create(parent).with_context(cannot_write)?;
    let result = beside.result();
    let is_series = points.len() > 1;
    if is_series {
        fs::create_dir(&result).with_context(cannot_write)?;
    }
    let workspaces = points.iter().map(|point| Workspace {
        artifact: if is_series {
            result.join(point.name())
        } else {
            result.clone()
        },
        resume_state: None,
        is_portable: false,
        received: None,
    });
    let series: Vec<_> = plans.into_iter().zip(workspaces).collect();
    let mut bars = Bars::new(interrupt.clone(), args.run.quiet);
    let manifests =
        pipeline::prune_series(&series, &mut bars).map_err(|error| failure(&error, &interrupt))?;
    drop(bars);
    fs::rename(&result, &args.out)
        .with_context(|| format!("io: cannot move the artifact to {}", args.out.display()))?;
    File::open(parent)
        .and_then(|dir| dir.sync_all())
        .with_context(|| format!("io: cannot sync {}", parent.display()))?;
    show(&manifests, &points, args).with_context(|| {
        format!(
            "io: {} is complete, but the result cannot be printed",
            args.out.display()
        )
    })
}

impl Args {
    /// What is done to the model, by method; how much of it is not known yet.
    fn prunings(&self) -> Vec<Pruning> {
        let prunings = self.methods.iter().map(|&method| Pruning {
            group: self.group,
            refine: self.refine,
            refit: self.refit,
            propagation: self.propagation,
            targets: Targets {
                goal: Goal::new(Pattern::default(), 0.0),
                rules: self.rules.clone(),
                allocation: self.allocation.clone(),
            },
            ..method.into()
        });
        prunings.collect()
    }
}

/// What each point takes; all but its method and its goal is the same.
fn plans(args: &Args, model: &ModelArgument, points: &[Point]) -> anyhow::Result<Vec<Plan>> {
    let defaults = args.run.defaults();
    let evaluation = args.evaluation.plan(model, defaults)?;
    let plans = points.iter().map(|point| {
        let data_dir = args.evaluation.data_dir.clone();
        let calibration = || args.calibration.plan(model, data_dir, defaults);
        if let Some(contradiction) = point.pruning.contradictions().first() {
            bail!("invalid_request: {}", contradiction.detail);
        }
        let reads_windows = point.pruning.needs_calibration();
        Ok(Plan {
            model: model.source.clone(),
            pruning: point.pruning.clone(),
            calibration: reads_windows.then(calibration).transpose()?,
            evaluation: evaluation.clone(),
            device: args.run.device.clone(),
            spec: None,
        })
    });
    plans.collect()
}

fn show(manifests: &[Manifest], points: &[Point], args: &Args) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    match manifests {
        [manifest] if args.run.json => serde_json::to_writer_pretty(&mut stdout, manifest)?,
        several if args.run.json => serde_json::to_writer_pretty(&mut stdout, several)?,
        [manifest] => write!(stdout, "{}", table::of_manifest(manifest))?,
        several => {
            let mut comparison = Comparison::default();
            for (point, manifest) in points.iter().zip(several) {
                comparison.add_pruned(point.name(), manifest);
            }
            write!(stdout, "{}", comparison.write(TableFormat::Table))?;
        }
    }
    if args.run.json {
        writeln!(stdout)?;
    } else {
        writeln!(stdout, "\n  {}", args.out.display())?;
    }
    Ok(stdout.flush()?)
}
