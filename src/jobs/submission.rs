//! What is checked when a job is submitted, beyond the form of its body.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::{Error, Parts};
use crate::domain::{ErrorCode, JobId, JobSpec, JobState, JobType, Refusal};
use crate::models::{CheckError, Checked};

/// Checks what can be known before a job runs, fills in what its models say, and estimates its memory.
pub(super) async fn complete(parts: &Arc<Parts>, spec: JobSpec) -> Result<Checked, Error> {
    let (job_artifacts, refusals) = job_artifacts(parts, &spec).await?;
    let parts = Arc::clone(parts);
    let checked = tokio::task::spawn_blocking(move || {
        if !refusals.is_empty() {
            let missing = parts.datasets.missing(&spec);
            return Err(Error::Refused([refusals, missing].concat()));
        }
        check_files(&parts, spec, &job_artifacts)
    });
    checked
        .await
        .map_err(|panic| Error::Unchecked(panic.into()))?
}

fn check_files(
    parts: &Parts,
    spec: JobSpec,
    job_artifacts: &BTreeMap<JobId, PathBuf>,
) -> Result<Checked, Error> {
    let missing = parts.datasets.missing(&spec);
    match parts.models.complete(spec, job_artifacts) {
        Ok(checked) if missing.is_empty() => Ok(checked),
        Ok(_) => Err(Error::Refused(missing)),
        Err(CheckError::Refused(refusals)) => Err(Error::Refused([refusals, missing].concat())),
        Err(CheckError::Unreadable(source)) => Err(Error::Unchecked(source.into())),
    }
}

/// Where the artifacts lie that the spec names as models, and what is wrong with those it cannot have.
async fn job_artifacts(
    parts: &Parts,
    spec: &JobSpec,
) -> Result<(BTreeMap<JobId, PathBuf>, Vec<Refusal>), Error> {
    let (mut found, mut refusals) = (BTreeMap::new(), Vec::new());
    for (pointer, id) in spec.source_jobs() {
        let problem = match parts.store.lookup_job(id).await? {
            None => format!("there is no job {id}"),
            Some(job) if job.spec.job_type() != JobType::Prune => format!(
                "the job {id} is of the type {}, which leaves no model",
                job.spec.job_type()
            ),
            Some(job) if job.state != JobState::Succeeded => format!(
                "the job {id} is {}, its artifact can be evaluated once it has succeeded",
                job.state.as_str()
            ),
            Some(job) => {
                found.insert(id, parts.artifacts.directory(id, job.attempt));
                continue;
            }
        };
        refusals.push(Refusal {
            pointer: pointer.to_owned(),
            code: ErrorCode::ModelNotFound,
            detail: problem,
        });
    }
    Ok((found, refusals))
}

/// Counts an accepted job; one that prunes nothing under the method `none`.
pub(super) fn count(spec: &JobSpec) {
    let (method, pattern) = match spec {
        JobSpec::Prune(spec) => (spec.method.as_str(), spec.pattern.to_string()),
        JobSpec::Evaluate(_) => ("none", "none".to_owned()),
    };
    metrics::counter!("secateur_jobs_created_total", "method" => method, "pattern" => pattern)
        .increment(1);
}
