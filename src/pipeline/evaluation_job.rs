//! A job of the type `evaluate`, from its spec to a finished directory of results.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

use super::{
    DeviceName, EvaluationPlan, Listener, ModelSource, PipelineError, evaluate, fresh_directory,
};
use crate::domain::manifest::EvaluationReport;
use crate::domain::spec::EvaluateSpec;
use crate::domain::{AttemptSpec, ErrorCode};

/// Name of the report in the directory.
const REPORT_FILE: &str = "evaluation.json";

/// Does the whole job. When it returns, its files lie complete and synced in `dir`.
pub fn evaluate_job(
    attempt: &AttemptSpec,
    spec: &EvaluateSpec,
    dir: &Path,
    listener: &mut dyn Listener,
) -> Result<EvaluationReport, PipelineError> {
    if spec.baseline.is_some() || !spec.evaluation.tasks.is_empty() {
        let message = "neither a baseline nor tasks can be evaluated";
        return Err(PipelineError::refused(ErrorCode::InvalidRequest, message));
    }
    let model = ModelSource::of_attempt(attempt, &spec.model)?;
    let plan = EvaluationPlan::of_attempt(attempt, &spec.evaluation)?;
    let device = DeviceName::of_attempt(attempt)?;
    let report = evaluate(&model, &plan, &device, listener)?;
    fresh_directory(dir)?;
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
