//! Checks a submission beyond the form of its body.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::future::join_all;
use tempfile::TempDir;

use crate::domain::job::Job;
use crate::domain::job::state::JobState;
use crate::domain::spec::{JobSpec, JobType, ModelRef};
use crate::domain::{ErrorCode, JobId, Refusal};
use crate::instruments;
use crate::jobs::{Error, JobsParts};
use crate::models::{CheckError, Checked, Elsewhere, NoRemoteModel, RemoteModel};
use crate::store::StoreError;

/// The file that describes a model.
const CONFIG_FILE: &str = "config.json";

/// Checks a spec against its models and data sets, completes it, and estimates its memory.
pub(super) async fn complete(parts: &Arc<JobsParts>, spec: JobSpec) -> Result<Checked, Error> {
    let fetched = TempDir::new().map_err(|error| Error::Unchecked(error.into()))?;
    let (job_artifacts, mut told) = job_artifacts(parts, &spec, fetched.path()).await?;
    let elsewhere = Elsewhere {
        job_artifacts,
        on_hub: on_hub(parts, &spec).await,
    };
    let parts = Arc::clone(parts);
    let checked = tokio::task::spawn_blocking(move || {
        let _fetched = fetched;
        let checked = check_files(&parts, spec, &elsewhere);
        if told.is_empty() {
            return checked;
        }
        if let Err(Error::Refused(more)) = checked {
            let is_told = |new: &Refusal| told.iter().any(|old| old.pointer == new.pointer);
            let more: Vec<_> = more.into_iter().filter(|new| !is_told(new)).collect();
            told.extend(more);
        }
        Err(Error::Refused(told))
    });
    checked
        .await
        .map_err(|panic| Error::Unchecked(panic.into()))?
}

fn check_files(parts: &JobsParts, spec: JobSpec, elsewhere: &Elsewhere) -> Result<Checked, Error> {
    let missing = parts.datasets.missing(&spec);
    match parts.models.complete(spec, elsewhere) {
        Ok(checked) if missing.is_empty() => Ok(checked),
        Ok(_) => Err(Error::Refused(missing)),
        Err(CheckError::Refused(refusals)) => Err(Error::Refused([refusals, missing].concat())),
        Err(CheckError::Unreadable(source)) => Err(Error::Unchecked(source.into())),
    }
}

/// What the hub says of its models, which are asked for at the same time.
async fn on_hub(
    parts: &JobsParts,
    spec: &JobSpec,
) -> BTreeMap<&'static str, Result<RemoteModel, NoRemoteModel>> {
    let needs_tokens = spec.needs_tokens();
    let models = spec.models().into_iter();
    let looks = models.filter_map(|(pointer, model)| match model {
        ModelRef::Hub { id, revision } => Some(async move {
            let found = parts.hub.look(id, revision, needs_tokens).await;
            (pointer, found)
        }),
        ModelRef::Local { .. } | ModelRef::Job { .. } => None,
    });
    join_all(looks).await.into_iter().collect()
}

/// Where the artifacts lie that the spec names as models, and what is wrong with those it cannot have. Of those that lie
/// in a bucket, what is looked at here is copied to a directory below `fetched`.
async fn job_artifacts(
    parts: &JobsParts,
    spec: &JobSpec,
    fetched: &Path,
) -> Result<(BTreeMap<JobId, PathBuf>, Vec<Refusal>), Error> {
    let (mut found, mut refusals) = (BTreeMap::new(), Vec::new());
    for (pointer, id) in spec.source_jobs() {
        let problem = match parts.store.lookup_job(id).await? {
            None => unknown(id),
            Some(job) if job.spec.job_type() != JobType::Prune.as_str() => format!(
                "the job {id} is of the type {}, which leaves no model",
                job.spec.job_type()
            ),
            Some(job) if job.state != JobState::Succeeded => format!(
                "the job {id} is {}, its artifact can be evaluated once it has succeeded",
                job.state.as_str()
            ),
            Some(job) => {
                let directory = match parts.artifacts.directory(id, job.attempt) {
                    Some(directory) => directory,
                    None => fetch_config(parts, id, fetched).await?,
                };
                found.insert(id, directory);
                continue;
            }
        };
        refusals.push(refusal(pointer, problem));
    }
    Ok((found, refusals))
}

fn refusal(pointer: &str, detail: String) -> Refusal {
    Refusal {
        pointer: pointer.to_owned(),
        code: ErrorCode::ModelNotFound,
        detail,
    }
}

fn unknown(id: JobId) -> String {
    format!("there is no job {id}")
}

/// What it means that a job that was checked could not be stored: what it was to work on may have been deleted meanwhile.
pub(super) fn not_stored(job: &Job, error: StoreError) -> Error {
    let StoreError::SourceGone(gone) = error else {
        return error.into();
    };
    let sources = job.spec.source_jobs().into_iter();
    let sources = sources.filter(|(_, id)| *id == gone);
    Error::Refused(
        sources
            .map(|(pointer, id)| refusal(pointer, unknown(id)))
            .collect(),
    )
}

/// A directory with nothing but the configuration of the model that a job left.
async fn fetch_config(parts: &JobsParts, id: JobId, fetched: &Path) -> Result<PathBuf, Error> {
    let directory = fetched.join(id.to_string());
    let made = tokio::fs::create_dir_all(&directory).await;
    made.map_err(|error| Error::Unchecked(error.into()))?;
    if let Some(publication) = parts.store.lookup_publication(id).await?
        && let Some(config) = publication
            .files
            .iter()
            .find(|file| file.name == CONFIG_FILE)
    {
        let target = directory.join(CONFIG_FILE);
        let fetch = parts
            .artifacts
            .fetch(id, publication.attempt, config, &target);
        fetch.await?;
    }
    Ok(directory)
}

/// Counts an accepted job; one that prunes nothing under the method `none`.
pub(super) fn count(spec: &JobSpec) {
    let (method, pattern) = match spec {
        JobSpec::Prune(spec) => (spec.method.name(), spec.pattern.to_string()),
        JobSpec::Evaluate(_) => ("none", "none".to_owned()),
    };
    metrics::counter!(instruments::JOBS_CREATED, "method" => method, "pattern" => pattern)
        .increment(1);
}
