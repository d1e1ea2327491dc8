//! `secateur compare`: the results of several models side by side.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use super::output::comparison::{Comparison, TableFormat};
use super::output::table;
use crate::domain::report::manifest::{EvaluationReport, Manifest};
use crate::pipeline::{EVALUATION_FILE, MANIFEST_FILE};

/// Show the results of several models side by side.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  secateur compare pruned
  secateur compare --format csv series/*")]
pub struct Args {
    /// Artifacts, or files that `prune --json` or `evaluate --json` printed
    #[arg(required = true, value_name = "DIR")]
    places: Vec<PathBuf>,
    /// How they are written
    #[arg(long, value_enum, default_value_t = TableFormat::Table)]
    format: TableFormat,
}

/// Runs the command.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let mut comparison = Comparison::default();
    for place in &args.places {
        add(&mut comparison, place)?;
    }
    let mut stdout = std::io::stdout().lock();
    write!(stdout, "{}", comparison.write(args.format))?;
    Ok(stdout.flush()?)
}

fn add(comparison: &mut Comparison, place: &Path) -> anyhow::Result<()> {
    let file = report_file(place)?;
    let read = fs::read(&file).with_context(|| format!("io: cannot read {}", file.display()))?;
    let label = place.display().to_string();
    if let Ok(manifest) = serde_json::from_slice::<Manifest>(&read) {
        comparison.add_pruned(label, &manifest);
    } else if let Ok(report) = serde_json::from_slice::<EvaluationReport>(&read) {
        comparison.add_measured(label, &report);
    } else if let Ok(series) = serde_json::from_slice::<Vec<Manifest>>(&read) {
        for (number, manifest) in series.iter().enumerate() {
            let point = name(manifest);
            comparison.add_pruned(format!("{label} {}: {point}", number + 1), manifest);
        }
    } else {
        bail!("invalid_request: {} holds no results", file.display());
    }
    Ok(())
}

/// What tells an artifact of a series from the others.
fn name(manifest: &Manifest) -> String {
    let (recipe, pattern) = (table::recipe(manifest), &manifest.pattern);
    let mut parts = vec![format!(
        "{recipe} {pattern} {}",
        manifest.sparsity.requested
    )];
    if !manifest.allocation.is_uniform() {
        parts.push(manifest.allocation.to_string());
    }
    parts.extend(manifest.rules.iter().map(ToString::to_string));
    parts.join(" ")
}

fn report_file(place: &Path) -> anyhow::Result<PathBuf> {
    if !place.is_dir() {
        return Ok(place.to_owned());
    }
    let files = [MANIFEST_FILE, EVALUATION_FILE].map(|name| place.join(name));
    let Some(found) = files.into_iter().find(|file| file.is_file()) else {
        bail!(
            "invalid_request: {} has no {MANIFEST_FILE}: it is no artifact",
            place.display()
        );
    };
    Ok(found)
}
