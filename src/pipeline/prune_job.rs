//! A job of the type `prune`: resolve → calibrate → prune → evaluate → publish.

use super::plan::Plan;
use super::prune::prune_into;
use super::resolve::{fetch, resolve};
use super::stopwatch::Stopwatch;
use super::{Listener, PipelineError, Workspace, calibrate, evaluation, publish};
use crate::domain::job::progress::Phase;
use crate::domain::report::manifest::{
    Calibration, FileEntry, LinearReport, Manifest, ModelProvenance,
};
use crate::domain::report::results::Results;
use crate::engine::{Checkpoint, Decoder, compute_type};

/// Does the whole job. When it returns, the artifact lies complete and synced in `workspace.artifact`.
pub fn prune_job(
    plan: &Plan,
    workspace: &Workspace,
    listener: &mut dyn Listener,
) -> Result<Manifest, PipelineError> {
    let mut stopwatch = Stopwatch::start();
    stopwatch.enter(Phase::Resolving, listener);
    let device = plan.device.open()?;
    let model = resolve(&plan.model, &mut stopwatch, listener)?;
    let calibration_text = plan.calibration.as_ref().and_then(|plan| plan.place());
    let files = fetch(calibration_text, &plan.evaluation, &mut stopwatch, listener)?;
    stopwatch.enter(Phase::Calibrating, listener);
    let source = Checkpoint::open(&model.dir)?;
    let decoder = Decoder::open(&source, &device)?;
    decoder.plan().check_pattern(plan.goal.pattern)?;
    let prepared = evaluation::Prepared::new(
        &plan.evaluation,
        &files,
        &model.dir,
        decoder.plan(),
        &plan.device,
    )?;
    let calibration = plan
        .calibration
        .as_ref()
        .map(|plan| calibrate::windows(plan, &files.calibration, &model.dir, decoder.plan()));
    let calibration = calibration.transpose()?;

    stopwatch.enter(Phase::Pruning, listener);
    let provenance = publish::provenance(&model, &source, decoder.plan())?;
    let fingerprint = publish::fingerprint(
        &provenance,
        decoder.plan(),
        plan,
        &compute_type(&device),
        calibration.as_ref().map(|c| &c.record),
    );
    let windows = calibration.as_ref().map(|c| &c.windows);
    let linears = prune_into(&decoder, plan, workspace, &fingerprint, windows, listener)?;

    stopwatch.enter(Phase::Evaluating, listener);
    let weights = publish::weight_files(&workspace.artifact, &provenance)?;
    let samples = workspace.artifact.join(publish::SAMPLES_FILE);
    let run = evaluation::Run {
        plan: &plan.evaluation,
        prepared: &prepared,
        device: &device,
        samples: (!plan.evaluation.tasks.is_empty()).then_some(&samples),
    };
    let subject = |dir, files, name| evaluation::Subject {
        dir,
        fingerprint: publish::model_fingerprint(files, decoder.plan()),
        name,
    };
    let results = run.results(
        Some(&subject(&model.dir, &provenance.files, "dense")),
        &subject(&workspace.artifact, &weights, "pruned"),
        listener,
    )?;

    stopwatch.enter(Phase::Publishing, listener);
    let calibration = calibration.map(|c| c.record);
    let pruned = PrunedModel {
        provenance,
        calibration,
        linears,
        weights,
        results,
    };
    publish::finish(plan, pruned, &workspace.artifact, stopwatch)
}

/// A pruned model and the results, as the manifest tells of them.
pub(super) struct PrunedModel {
    pub(super) provenance: ModelProvenance,
    pub(super) calibration: Option<Calibration>,
    pub(super) linears: Vec<LinearReport>,
    /// The weight files of the artifact.
    pub(super) weights: Vec<FileEntry>,
    pub(super) results: Results,
}
