//! One job's work, from a plan to a finished artifact directory. Used by a worker's child process and by the command
//! line; knows nothing of the database.
//!
//! [`run`] reads top to bottom: resolve → calibrate → prune → evaluate → publish.

mod artifact;
mod calibration;
mod corpora;
pub mod disk;
mod download;
mod error;
mod evaluation;
mod evaluation_job;
pub mod hub;
mod listener;
mod memory;
mod plan;
mod resolve;
mod stopwatch;
mod target;
mod text;
mod tokenizer;

use std::path::PathBuf;

pub use error::PipelineError;
pub use evaluation::{Evaluation, evaluate};
pub use evaluation_job::evaluate_job;
pub use listener::{Listener, SilentListener};
pub use memory::peak_rss_bytes;
pub use plan::{
    CalibrationPlan, Corpus, DeviceName, EvaluationPlan, EvaluationText, ModelSource, Plan,
    TaskPlan,
};
pub(crate) use plan::{saliency, sparsity};
pub use resolve::ResolvedModel;
pub use text::Excerpt;

use crate::domain::attempt::Phase;
use crate::domain::manifest::{Calibration, FileEntry, LinearReport, Manifest};
use crate::domain::results::Results;
use crate::engine::{Checkpoint, Decoder, Journal, PruneOptions, Saliency, TokenWindows, prune};
use listener::EngineObserver;
use stopwatch::Stopwatch;

/// Where a job may write.
#[derive(Debug, Clone)]
pub struct Workspace {
    /// Where the artifact is made. It must not exist yet, unless a journal says how far it is.
    pub artifact: PathBuf,
    /// Where the state between blocks is kept; `None` = a killed job starts over.
    pub journal: Option<PathBuf>,
    /// Whether the journal shall keep what it takes to go on on another machine.
    pub is_portable: bool,
    /// A journal that came from another machine; its files are moved.
    pub received: Option<PathBuf>,
}

/// Does the whole job. When it returns, the artifact lies complete and synced in `workspace.artifact`.
pub fn run(
    plan: &Plan,
    workspace: &Workspace,
    listener: &mut dyn Listener,
) -> Result<Manifest, PipelineError> {
    let mut stopwatch = Stopwatch::start();
    stopwatch.enter(Phase::Resolving, listener);
    let device = plan.device.open()?;
    let model = resolve::resolve(&plan.model, &mut stopwatch, listener)?;
    let needs_calibration = plan.saliency == Saliency::Wanda;
    let corpus = needs_calibration.then_some(&plan.calibration.corpus);
    let files = corpora::fetch(corpus, &plan.evaluation, &mut stopwatch, listener)?;
    stopwatch.enter(Phase::Calibrating, listener);
    let source = Checkpoint::open(&model.dir)?;
    let decoder = Decoder::open(&source, &device)?;
    decoder.config().check_pattern(plan.sparsity)?;
    let prepared = evaluation::Prepared::new(
        &plan.evaluation,
        &files,
        &model.dir,
        decoder.config(),
        &plan.device,
    )?;
    let calibration = match plan.saliency {
        Saliency::Magnitude => None,
        Saliency::Wanda => Some(calibration::windows(
            &plan.calibration,
            &files.calibration,
            &model.dir,
            decoder.config(),
        )?),
    };

    stopwatch.enter(Phase::Pruning, listener);
    let provenance = artifact::provenance(&model, &source, decoder.config())?;
    let fingerprint = artifact::fingerprint(
        &provenance,
        decoder.config(),
        plan,
        calibration.as_ref().map(|c| &c.record),
    );
    let windows = calibration.as_ref().map(|c| &c.windows);
    let linears = prune_into(&decoder, plan, workspace, &fingerprint, windows, listener)?;

    stopwatch.enter(Phase::Evaluating, listener);
    let weights = artifact::weight_files(&workspace.artifact, &provenance)?;
    let samples = workspace.artifact.join(artifact::SAMPLES_FILE);
    let run = evaluation::Run {
        plan: &plan.evaluation,
        prepared: &prepared,
        device: &device,
        samples: (!plan.evaluation.tasks.is_empty()).then_some(&samples),
    };
    let subject = |dir, files, name| evaluation::Subject {
        dir,
        fingerprint: artifact::model_fingerprint(files, decoder.config()),
        name,
    };
    let results = run.results(
        Some(&subject(&model.dir, &provenance.files, "dense")),
        &subject(&workspace.artifact, &weights, "pruned"),
        listener,
    )?;

    stopwatch.enter(Phase::Publishing, listener);
    let calibration = calibration.map(|c| c.record);
    let outcome = Outcome {
        provenance,
        calibration,
        linears,
        weights,
        results,
    };
    artifact::finish(plan, outcome, &workspace.artifact, stopwatch)
}

/// What the manifest is made of.
pub(crate) struct Outcome {
    provenance: crate::domain::manifest::ModelProvenance,
    calibration: Option<Calibration>,
    linears: Vec<LinearReport>,
    /// The weight files of the artifact.
    weights: Vec<FileEntry>,
    results: Results,
}

fn prune_into(
    decoder: &Decoder<'_>,
    plan: &Plan,
    workspace: &Workspace,
    fingerprint: &str,
    windows: Option<&TokenWindows>,
    listener: &mut dyn Listener,
) -> Result<Vec<LinearReport>, PipelineError> {
    let journal = workspace
        .journal
        .as_deref()
        .map(|dir| Journal::open(dir, fingerprint))
        .transpose()?
        .map(|journal| {
            if workspace.is_portable {
                journal.portable()
            } else {
                journal
            }
        });
    let target = target::open(decoder, workspace, journal.as_ref(), windows)?;
    let options = PruneOptions {
        saliency: plan.saliency,
        sparsity: plan.sparsity,
        windows,
        journal: journal.as_ref(),
    };
    prune(
        decoder,
        &target,
        &options,
        &mut EngineObserver(listener),
        None,
    )?;
    artifact::count_zeros(&workspace.artifact, decoder.config())
}
