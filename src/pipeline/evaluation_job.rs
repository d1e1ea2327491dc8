//! A job of the type `evaluate`, from its spec to a finished directory of results.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

use super::{
    DeviceName, Evaluation, EvaluationPlan, Listener, ModelSource, PipelineError, evaluate,
    target::fresh_directory,
};
use crate::domain::AttemptSpec;
use crate::domain::manifest::EvaluationReport;
use crate::domain::spec::EvaluateSpec;

/// Name of the report in the directory.
const REPORT_FILE: &str = "evaluation.json";

/// Name of the scores of single documents beside it.
const SAMPLES_FILE: &str = "samples.jsonl";

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
    };
    let report = evaluate(&request, listener)?;
    let path = dir.join(REPORT_FILE);
    write(&path, &report).map_err(|error| PipelineError::io("write", &path, error))?;
    Ok(report)
}

fn write(path: &Path, report: &EvaluationReport) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(&serde_json::to_vec_pretty(report)?)?;
    file.write_all(b"\n")?;
    file.sync_all()
}
