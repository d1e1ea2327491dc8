//! A job of the type `evaluate`: resolve → evaluate → publish.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use candle_core::Device;

use super::evaluation::{Prepared, Run, Subject};
use super::plan::{EvaluationPlan, ModelSource};
use super::prune::fresh_directory;
use super::resolve::{Demands, LocalFiles, ResolvedModel, fetch, resolve};
use super::stopwatch::Stopwatch;
use super::{DeviceName, Listener, PipelineError, peak_rss_bytes, publish, warnings};
use crate::domain::attempt::AttemptSpec;
use crate::domain::job::progress::Phase;
use crate::domain::report::manifest::{EvaluationReport, ModelProvenance};
use crate::domain::report::results::Warning;
use crate::domain::spec::{EvaluateSpec, JobSpec};
use crate::engine::{Checkpoint, Decoder};

/// Name of the report in the directory.
pub(crate) const EVALUATION_FILE: &str = "evaluation.json";

/// Name of the scores of single documents beside it.
const SAMPLES_FILE: &str = "samples.jsonl";

/// A measurement without pruning.
#[derive(Debug, Clone)]
pub struct Evaluation {
    /// The model.
    pub model: ModelSource,
    /// What it is compared with.
    pub baseline: Option<ModelSource>,
    /// What is measured.
    pub plan: EvaluationPlan,
    /// Where it is computed.
    pub device: DeviceName,
    /// Where the scores of single documents go.
    pub samples: Option<PathBuf>,
    /// The job this was made from.
    pub job: Option<JobSpec>,
}

/// Does the whole job. When it returns, its files lie complete and synced in `dir`.
pub fn evaluate_job(
    attempt: &AttemptSpec,
    spec: &EvaluateSpec,
    dir: &Path,
    listener: &mut dyn Listener,
) -> Result<EvaluationReport, PipelineError> {
    let of_attempt = |model| ModelSource::of_attempt(attempt, model);
    fresh_directory(dir)?;
    let request = Evaluation {
        model: of_attempt(&spec.model)?,
        baseline: spec.baseline.as_ref().map(of_attempt).transpose()?,
        plan: EvaluationPlan::of_attempt(attempt, &spec.evaluation)?,
        device: DeviceName::of_attempt(attempt)?,
        samples: (!spec.evaluation.tasks.is_empty()).then(|| dir.join(SAMPLES_FILE)),
        job: Some(JobSpec::Evaluate(spec.clone())),
    };
    let report = evaluate(&request, listener)?;
    let path = dir.join(EVALUATION_FILE);
    write(&path, &report).map_err(|error| PipelineError::io("write", &path, error))?;
    Ok(report)
}

fn write(path: &Path, report: &EvaluationReport) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(&serde_json::to_vec_pretty(report)?)?;
    file.write_all(b"\n")?;
    file.sync_all()
}

/// Measures a model that is not pruned here.
pub fn evaluate(
    request: &Evaluation,
    listener: &mut dyn Listener,
) -> Result<EvaluationReport, PipelineError> {
    let mut stopwatch = Stopwatch::start();
    stopwatch.enter(Phase::Resolving, listener);
    let device = request.device.open()?;
    let demands = Demands {
        tokens: !request.plan.is_empty(),
        job: request.job.as_ref(),
        memory_bytes: request.plan.memory_bytes,
    };
    let model = resolve(&request.model, &demands, &mut stopwatch, listener)?;
    let baseline = request.baseline.as_ref().map(|baseline| {
        let baseline = baseline.pinned_like(&request.model, model.commit.as_deref());
        resolve(&baseline, &demands, &mut stopwatch, listener)
    });
    let baseline = baseline.transpose()?;
    let files = fetch(None, &request.plan, &mut stopwatch, listener)?;
    let model = Opened::new(&model, request, &files, &device)?;
    let baseline = baseline
        .map(|baseline| Opened::new(&baseline, request, &files, &device))
        .transpose()?;
    if let Some(baseline) = &baseline {
        model.prepared.ensure_same_tokens(&baseline.prepared)?;
    }

    stopwatch.enter(Phase::Evaluating, listener);
    let run = Run {
        plan: &request.plan,
        prepared: &model.prepared,
        device: &device,
    };
    let before = baseline
        .as_ref()
        .map(|baseline| baseline.subject("baseline", None));
    let subject = model.subject("model", request.samples.clone());
    let results = run.results(before.as_ref(), &[subject], listener)?;
    let mut results = results.into_iter().next().unwrap_or_default();
    results.warnings.extend(model.warnings);
    let of_baseline = baseline.iter().flat_map(|baseline| &baseline.warnings);
    results.warnings.extend(of_baseline.cloned());
    Ok(EvaluationReport {
        tool_version: env!("CARGO_PKG_VERSION").to_owned(),
        model: model.provenance,
        baseline: baseline.map(|baseline| baseline.provenance),
        results,
        device: request.device.name(),
        compute_dtype: "f32".to_owned(),
        timings_s: stopwatch.stop(),
        peak_rss_bytes: peak_rss_bytes(),
    })
}

/// A model that has been looked at, with what it shall be measured on.
struct Opened {
    dir: PathBuf,
    fingerprint: String,
    provenance: ModelProvenance,
    prepared: Prepared,
    warnings: Vec<Warning>,
}

impl Opened {
    fn new(
        model: &ResolvedModel,
        request: &Evaluation,
        files: &LocalFiles,
        device: &Device,
    ) -> Result<Self, PipelineError> {
        let checkpoint = Checkpoint::open(&model.dir)?;
        let decoder = Decoder::open(&checkpoint, device)?;
        let model_plan = decoder.plan();
        let prepared = Prepared::new(
            &request.plan,
            files,
            &model.dir,
            model_plan,
            &request.device,
        )?;
        let provenance = publish::provenance(model, &checkpoint, model_plan)?;
        Ok(Self {
            dir: model.dir.clone(),
            warnings: warnings::of_model(model_plan),
            fingerprint: publish::model_fingerprint(&provenance.files, model_plan),
            provenance,
            prepared,
        })
    }

    fn subject(&self, name: &'static str, samples: Option<PathBuf>) -> Subject<'_> {
        Subject {
            dir: &self.dir,
            fingerprint: self.fingerprint.clone(),
            name,
            samples,
        }
    }
}
