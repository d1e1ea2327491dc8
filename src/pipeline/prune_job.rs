//! A job of the type `prune`: resolve → calibrate → prune → evaluate → publish.

use super::calibrate::CalibrationWindows;
use super::plan::Plan;
use super::prune::{Rankings, block_sparsity, prune_into, remove_parts, report};
use super::resolve::{Demands, fetch, resolve};
use super::stopwatch::Stopwatch;
use super::{Listener, PipelineError, Workspace, calibrate, evaluation, publish, warnings};
use crate::domain::job::progress::Phase;
use crate::domain::report::manifest::{
    Calibration, FileEntry, LinearReport, Manifest, ModelProvenance, StructureReport,
};
use crate::domain::report::results::Results;
use crate::domain::spec::JobSpec;
use crate::engine::{Checkpoint, Decoder, EngineError, ModelPlan, PruningWork};

/// Does the whole job. When it returns, the artifact lies complete and synced in `workspace.artifact`.
pub fn prune_job(
    plan: &Plan,
    workspace: &Workspace,
    listener: &mut dyn Listener,
) -> Result<Manifest, PipelineError> {
    let point = (plan.clone(), workspace.clone());
    let mut manifests = prune_series(&[point], listener)?;
    Ok(manifests.remove(0))
}

/// Prunes a model once for each point, and measures all of them beside one pass over the dense model. The plans differ
/// in method and goal alone. The manifests tell the times of the whole series.
pub fn prune_series(
    points: &[(Plan, Workspace)],
    listener: &mut dyn Listener,
) -> Result<Vec<Manifest>, PipelineError> {
    let Some((common, _)) = points.first() else {
        return Ok(Vec::new());
    };
    let mut stopwatch = Stopwatch::start();
    stopwatch.enter(Phase::Resolving, listener);
    let device = common.device.open()?;
    let job = common.spec.clone().map(JobSpec::Prune);
    let demands = Demands {
        tokens: points.iter().any(|(plan, _)| plan.needs_tokens()),
        job: job.as_ref(),
        memory_bytes: common.evaluation.memory_bytes,
    };
    let model = resolve(&common.model, &demands, &mut stopwatch, listener)?;
    let calibration = points
        .iter()
        .find_map(|(plan, _)| plan.calibration.as_ref());
    let text = calibration.and_then(|plan| plan.place());
    let files = fetch(text, &common.evaluation, &mut stopwatch, listener)?;
    stopwatch.enter(Phase::Calibrating, listener);
    let source = Checkpoint::open(&model.dir)?;
    let decoder = Decoder::open(&source, &device)?;
    source.companion_files()?;
    for (plan, _) in points {
        plan.pruning.check(decoder.plan())?;
    }
    let prepared = evaluation::Prepared::new(
        &common.evaluation,
        &files,
        &model.dir,
        decoder.plan(),
        &common.device,
    )?;
    let calibration = calibration
        .map(|plan| calibrate::windows(plan, &files.calibration, &model.dir, decoder.plan()));
    let calibration = calibration.transpose()?;

    stopwatch.enter(Phase::Pruning, listener);
    let provenance = publish::provenance(&model, &source, decoder.plan())?;
    let mut pruned = Vec::with_capacity(points.len());
    let mut rankings = Rankings::default();
    for point in points {
        let calibration = calibration.as_ref();
        pruned.push(prune_point(
            &decoder,
            point,
            &provenance,
            calibration,
            &mut rankings,
            listener,
        )?);
    }

    stopwatch.enter(Phase::Evaluating, listener);
    let run = evaluation::Run {
        plan: &common.evaluation,
        prepared: &prepared,
        device: &device,
    };
    let dense = evaluation::Subject {
        dir: &model.dir,
        fingerprint: publish::model_fingerprint(&provenance.files, decoder.plan()),
        name: "dense",
        samples: None,
    };
    let subjects: Vec<_> = points
        .iter()
        .zip(&pruned)
        .map(|(point, pruned)| pruned.subject(point))
        .collect();
    let mut results = run.results(Some(&dense), &subjects, listener)?;
    for (results, pruned) in results.iter_mut().zip(&pruned) {
        results.warnings.extend(warnings::of_model(decoder.plan()));
        let unseen = warnings::of_linears(&pruned.linears);
        results.warnings.extend(unseen);
    }

    stopwatch.enter(Phase::Publishing, listener);
    let manifests = points.iter().zip(pruned).zip(results);
    let manifests = manifests.map(|(((plan, workspace), pruned), results)| {
        let pruned = PrunedModel { results, ..pruned };
        publish::finish(plan, pruned, &workspace.artifact, stopwatch.clone())
    });
    manifests.collect()
}

/// Prunes into the artifact of a point; what is measured of it is not known yet.
fn prune_point(
    decoder: &Decoder<'_>,
    point: &(Plan, Workspace),
    provenance: &ModelProvenance,
    calibration: Option<&CalibrationWindows>,
    rankings: &mut Rankings,
    listener: &mut dyn Listener,
) -> Result<PrunedModel, PipelineError> {
    let (plan, Workspace { artifact, .. }) = point;
    let calibration = calibration.filter(|_| plan.calibration.is_some());
    let record = calibration.map(|c| &c.record);
    let windows = calibration.map(|c| &c.windows);
    let (mut outcomes, mut structure) = (Vec::new(), None);
    match plan.pruning.work() {
        PruningWork::Linears(recipe) => {
            let fingerprint = publish::fingerprint(provenance, decoder.plan(), plan, record);
            outcomes = prune_into(decoder, recipe, point, &fingerprint, windows, listener)?;
        }
        PruningWork::Parts(kind) => {
            let windows = windows.ok_or_else(|| {
                EngineError::InvalidWindows(format!("{kind} needs calibration windows"))
            })?;
            let of_source = (windows, provenance);
            let removed = remove_parts(decoder, kind, point, of_source, rankings, listener)?;
            structure = Some(removed);
        }
    }
    let delivered = Checkpoint::open(artifact)?;
    let model_plan = Decoder::open(&delivered, decoder.device())?.plan().clone();
    let (linears, weights) = rayon::join(
        || report(artifact, &model_plan, &outcomes),
        || publish::file_entries(artifact, delivered.shard_names()),
    );
    let linears = linears?;
    Ok(PrunedModel {
        provenance: provenance.clone(),
        calibration: record.cloned(),
        block_sparsity: block_sparsity(&linears, &model_plan),
        structure,
        model_plan,
        linears,
        weights: weights?,
        results: Results::default(),
    })
}

/// A pruned model and the results, as the manifest tells of them.
pub(super) struct PrunedModel {
    pub(super) provenance: ModelProvenance,
    pub(super) calibration: Option<Calibration>,
    /// What it is made of.
    model_plan: ModelPlan,
    /// Which parts it lacks.
    pub(super) structure: Option<StructureReport>,
    pub(super) linears: Vec<LinearReport>,
    /// The fraction of zeros of each block.
    pub(super) block_sparsity: Vec<f64>,
    /// The weight files of the artifact.
    pub(super) weights: Vec<FileEntry>,
    pub(super) results: Results,
}

impl PrunedModel {
    /// The artifact of a point, to be measured.
    fn subject<'a>(&self, (plan, workspace): &'a (Plan, Workspace)) -> evaluation::Subject<'a> {
        let dir = &workspace.artifact;
        let has_samples = !plan.evaluation.tasks.is_empty();
        evaluation::Subject {
            dir,
            fingerprint: publish::model_fingerprint(&self.weights, &self.model_plan),
            name: "pruned",
            samples: has_samples.then(|| dir.join(publish::SAMPLES_FILE)),
        }
    }
}
