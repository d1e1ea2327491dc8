//! Finds the artifacts that a job names as its models.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::domain::job::failure::AttemptFailure;
use crate::domain::job::state::JobState;
use crate::domain::spec::JobSpec;
use crate::domain::{ErrorCode, JobId};
use crate::scratch::ScratchDir;
use crate::store::{StoreError, StoreFuture};
use crate::worker::context::{Context, OUTAGE_POLL};

/// The directory of each. The sweep removes nothing of a succeeded job, so they stay while the attempt runs. What lies in a
/// bucket is copied into `scratch` first, where the next attempt finds it.
pub(super) async fn locate(
    context: &Context,
    spec: &JobSpec,
    scratch: &ScratchDir,
) -> Result<BTreeMap<JobId, PathBuf>, AttemptFailure> {
    let ids: Vec<_> = spec.source_jobs().into_iter().map(|(_, id)| id).collect();
    if ids.is_empty() {
        return Ok(BTreeMap::new());
    }
    let statuses = at_last(context, || context.parts.store.list_statuses(&ids)).await;
    let statuses = statuses.map_err(|error| {
        let error = &error as &dyn std::error::Error;
        tracing::error!(error, "cannot look up the jobs whose artifacts are needed");
        let message = "the jobs that the models are artifacts of cannot be looked up";
        AttemptFailure::new(ErrorCode::Unavailable, message.to_owned(), None)
    })?;
    let mut directories = BTreeMap::new();
    for id in ids {
        let attempt = match statuses.get(&id) {
            Some(status) if status.state == JobState::Succeeded => status.attempt,
            _ => {
                let message = format!("the artifact of the job {id} is not there any more");
                return Err(AttemptFailure::new(ErrorCode::ModelNotFound, message, None));
            }
        };
        let directory = match context.parts.artifacts.directory(id, attempt) {
            Some(directory) => directory,
            None => fetch(context, id, &scratch.sources()).await?,
        };
        directories.insert(id, directory);
    }
    Ok(directories)
}

/// What the database says, once it is there.
async fn at_last<'s, T>(
    context: &Context,
    ask: impl Fn() -> StoreFuture<'s, T>,
) -> Result<T, StoreError> {
    loop {
        match ask().await {
            Err(error) if error.is_transient() => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the database is away, and waited for"
                );
                tokio::time::sleep(context.settings.pool.retry_seconds.min(OUTAGE_POLL)).await;
            }
            answer => return answer,
        }
    }
}

/// Copies the files of a job's artifact to a directory below `sources`. A bucket that is away is waited for.
async fn fetch(context: &Context, id: JobId, sources: &Path) -> Result<PathBuf, AttemptFailure> {
    let directory = sources.join(id.to_string());
    let copied = async {
        tokio::fs::create_dir_all(&directory).await?;
        let publication = at_last(context, || context.parts.store.lookup_publication(id));
        let publication = publication.await?;
        let Some(publication) = publication else {
            return Err(format!("the job {id} has no artifact").into());
        };
        for file in &publication.files {
            let target = directory.join(&file.name);
            let artifacts = &context.parts.artifacts;
            let attempt = publication.attempt;
            while let Err(error) = artifacts.fetch(id, attempt, file, &target).await {
                if !error.may_pass() {
                    return Err(error.into());
                }
                context.wait_for_bucket(&error).await;
            }
        }
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
    };
    copied.await.map_err(|error| {
        tracing::error!(
            error = &*error as &dyn std::error::Error,
            "cannot copy the artifact that is needed"
        );
        let message = format!("the artifact of the job {id} cannot be copied to the worker");
        AttemptFailure::new(ErrorCode::Unavailable, message, None)
    })?;
    Ok(directory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::job::Publication;
    use crate::domain::job::attempt_end::AttemptEnd;
    use crate::domain::spec::{EvaluateSpec, ModelRef};
    use crate::store::Lease;
    use crate::worker::fixture::{build_artifact, claimed, context};

    #[tokio::test]
    async fn the_artifact_of_a_job_is_found_once_it_has_succeeded() {
        let home = tempfile::tempdir().unwrap();
        let context = context(home.path()).await;
        let job = claimed(&context).await;
        let spec = JobSpec::Evaluate(EvaluateSpec {
            model: ModelRef::Job { id: job.id },
            baseline: None,
            evaluation: job.spec.known().unwrap().evaluation().clone(),
        });
        let scratch = context.scratch(job.id);
        let failure = locate(&context, &spec, &scratch).await.unwrap_err();
        assert_eq!(failure.code, ErrorCode::ModelNotFound);
        assert!(!failure.retryable, "{failure:?}");

        let (directory, report) = build_artifact(&context, &job);
        let artifacts = &context.parts.artifacts;
        artifacts.publish(job.id, 1, &directory, &[]).await.unwrap();
        let end = AttemptEnd::Succeeded(Box::new(Publication {
            attempt: 1,
            report,
            files: Vec::new(),
        }));
        let lease = Lease::of(&job).unwrap();
        let finished = context.parts.store.finish(&lease, &end, None);
        assert!(finished.await.unwrap().is_some());
        let found = locate(&context, &spec, &scratch).await.unwrap();
        let weights = std::fs::read(found[&job.id].join("model.safetensors"));
        assert_eq!(weights.unwrap(), b"0123456789");
    }
}
