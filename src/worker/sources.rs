//! Finds the artifacts that a job names as its models.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::Context;
use crate::domain::{AttemptFailure, ErrorCode, JobId, JobSpec, JobState};

/// The directory of each. The sweep removes nothing of a succeeded job, so they stay while the attempt runs.
pub(super) async fn locate(
    context: &Context,
    spec: &JobSpec,
) -> Result<BTreeMap<JobId, PathBuf>, AttemptFailure> {
    let ids: Vec<_> = spec.source_jobs().into_iter().map(|(_, id)| id).collect();
    if ids.is_empty() {
        return Ok(BTreeMap::new());
    }
    let standings = context.parts.store.list_standings(&ids).await;
    let standings = standings.map_err(|error| {
        let error = &error as &dyn std::error::Error;
        tracing::error!(error, "cannot look up the jobs whose artifacts are needed");
        let message = "the jobs that the models are artifacts of cannot be looked up";
        failure(ErrorCode::Unavailable, message.to_owned())
    })?;
    let directories = ids.into_iter().map(|id| match standings.get(&id) {
        Some(standing) if standing.state == JobState::Succeeded => {
            let directory = context.parts.artifacts.directory(id, standing.attempt);
            Ok((id, directory))
        }
        _ => {
            let message = format!("the artifact of the job {id} is not there any more");
            Err(failure(ErrorCode::ModelNotFound, message))
        }
    });
    directories.collect()
}

fn failure(code: ErrorCode, message: String) -> AttemptFailure {
    AttemptFailure {
        code,
        message,
        phase: None,
        retryable: code.retryable(),
    }
}
