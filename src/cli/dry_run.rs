//! `--dry-run`: what a command would take.

use std::io::Write as _;

use super::output::table;
use crate::corpora::DatasetRef;
use crate::datasets::Place;
use crate::domain::spec::{
    CalibrationSpec, EvaluateSpec, EvaluationSpec, JobSpec, ModelRef, PruneSpec,
};
use crate::engine::TokenWindows;
use crate::pipeline::{
    CalibrationPlan, DeviceName, EvaluationPlan, Forecast, ModelSource, PipelineError, Plan,
    forecast,
};

/// Shows what a series of prunings would take.
pub(super) fn of_series(plans: &[Plan]) -> anyhow::Result<()> {
    let Some(first) = plans.first() else {
        return Ok(());
    };
    let specs = plans.iter().map(spec).collect::<Result<Vec<_>, _>>()?;
    let calibration = plans.iter().find_map(|plan| match &plan.calibration {
        Some(CalibrationPlan::Drawn { text, .. }) => Some((text.name.as_str(), &text.place)),
        _ => None,
    });
    let texts = calibration.into_iter().chain(texts(&first.evaluation));
    let fetched: Vec<&str> = texts.filter_map(from_the_hub).collect();
    show(
        &first.model,
        None,
        &specs,
        &first.device,
        &first.evaluation,
        &fetched,
    )
}

/// Shows what a measurement would take.
pub(super) fn of_measurement(
    model: &ModelSource,
    baseline: Option<&ModelSource>,
    plan: &EvaluationPlan,
    device: &DeviceName,
) -> anyhow::Result<()> {
    let spec = JobSpec::Evaluate(EvaluateSpec {
        model: named(model),
        baseline: baseline.map(named),
        evaluation: evaluation(plan),
    });
    let fetched: Vec<&str> = texts(plan).filter_map(from_the_hub).collect();
    show(model, baseline, &[spec], device, plan, &fetched)
}

fn show(
    model: &ModelSource,
    baseline: Option<&ModelSource>,
    specs: &[JobSpec],
    device: &DeviceName,
    plan: &EvaluationPlan,
    fetched: &[&str],
) -> anyhow::Result<()> {
    let found = forecast(model, baseline, specs, device)
        .map_err(|error| anyhow::anyhow!("{}: {}", error.code(), error.chain()))?;
    let prunes = specs.iter().any(|spec| spec.method().is_some());
    let mut stdout = std::io::stdout().lock();
    write!(stdout, "{}", text(&found, prunes, plan, fetched))?;
    Ok(stdout.flush()?)
}

fn text(found: &Forecast, prunes: bool, plan: &EvaluationPlan, fetched: &[&str]) -> String {
    let commit = found.commit.as_ref();
    let commit = commit.map(|commit| format!(" at commit {commit}"));
    let mut rows = vec![(
        "model",
        format!(
            "{}{}, {} blocks, {} weights in {} linears",
            found.architecture,
            commit.unwrap_or_default(),
            found.blocks,
            found.weights,
            found.linears
        ),
    )];
    rows.extend(found.rules.iter().map(|(rule, names)| {
        let linears = match &names[..] {
            [only] => only.clone(),
            names => {
                let (first, last) = (&names[0], &names[names.len() - 1]);
                format!("{} linears, {first} to {last}", names.len())
            }
        };
        ("rule", format!("{rule}: {linears}"))
    }));
    rows.push(("memory", table::bytes(found.memory_bytes)));
    rows.push(("disk", table::bytes(found.artifact_bytes)));
    let mut downloads = table::bytes(found.download_bytes);
    if !fetched.is_empty() {
        downloads = format!(
            "{downloads} of the model, and what the cache lacks of {}",
            fetched.join(", ")
        );
    }
    rows.push(("download", downloads));
    if prunes {
        rows.push((
            "pruning",
            format!("about {}", table::duration(found.pruning_seconds)),
        ));
    }
    let perplexity = match found.measuring_seconds {
        Some(seconds) => format!("about {}", table::duration(seconds)),
        None => "as long as the texts take: limit them with --eval-windows or --eval-max-tokens"
            .to_owned(),
    };
    let tasks = if plan.tasks.is_empty() {
        ""
    } else {
        ", and the tasks"
    };
    if !plan.is_empty() {
        rows.push(("measuring", format!("{perplexity}{tasks}")));
    }
    let rows = rows
        .into_iter()
        .map(|(name, value)| format!("  {name:<10}  {value}\n"));
    rows.collect()
}

/// A plan as a job's body would say it.
fn spec(plan: &Plan) -> Result<JobSpec, PipelineError> {
    let (n_samples, seq_len, seed) = match &plan.calibration {
        Some(CalibrationPlan::Drawn {
            n_samples,
            seq_len,
            seed,
            ..
        }) => (*n_samples, *seq_len, *seed),
        Some(CalibrationPlan::Given(path)) => {
            let windows = TokenWindows::read(path)?;
            (windows.len(), Some(windows.seq_len()), 0)
        }
        None => (0, None, 0),
    };
    Ok(JobSpec::Prune(PruneSpec {
        model: named(&plan.model),
        method: plan.pruning.method,
        group: plan.pruning.group,
        refine: plan.pruning.refine,
        refit: plan.pruning.refit,
        propagation: plan.pruning.propagation,
        sparsity: plan.pruning.targets.goal.sparsity,
        pattern: plan.pruning.targets.goal.pattern,
        rules: plan.pruning.targets.rules.clone(),
        allocation: plan.pruning.targets.allocation.clone(),
        calibration: CalibrationSpec {
            dataset: DatasetRef::Local {
                path: String::new(),
            },
            n_samples,
            seq_len,
            seed,
        },
        evaluation: evaluation(&plan.evaluation),
    }))
}

fn named(model: &ModelSource) -> ModelRef {
    let (ModelSource::Hub { id, .. }
    | ModelSource::Directory { id, .. }
    | ModelSource::Artifact { id, .. }) = model;
    ModelRef::Local { id: id.clone() }
}

/// What is measured, files of the command line included.
fn evaluation(plan: &EvaluationPlan) -> EvaluationSpec {
    let known = plan.spec.perplexity.len();
    let files = plan.texts.len().saturating_sub(known);
    let file = || DatasetRef::Local {
        path: String::new(),
    };
    let mut spec = plan.spec.clone();
    spec.perplexity
        .extend(std::iter::repeat_with(file).take(files));
    spec
}

fn texts(plan: &EvaluationPlan) -> impl Iterator<Item = (&str, &Place)> {
    let texts = plan
        .texts
        .iter()
        .map(|text| (text.name.as_str(), &text.place));
    let tasks = plan
        .tasks
        .iter()
        .map(|task| (task.task.name, &task.documents));
    texts.chain(tasks)
}

fn from_the_hub<'a>((name, place): (&'a str, &Place)) -> Option<&'a str> {
    matches!(place, Place::Hub { .. }).then_some(name)
}
