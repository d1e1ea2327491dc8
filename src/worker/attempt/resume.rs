//! Copies a job's resume state from the bucket, so that it goes on where another machine left it.

use std::io;
use std::path::{Path, PathBuf};

use crate::artifacts::{ArtifactError, ResumeStates, StoredFile, StoredState};
use crate::domain::JobId;
use crate::domain::attempt::RESUME_STATE_FILE;
use crate::domain::job::Job;
use crate::pipeline::DeviceName;
use crate::scratch::ScratchDir;
use crate::worker::context::Context;

/// How often a resume state is asked for, minutes in all, before the one before it is: the bucket may have lost one object
/// only.
const COPIES: u32 = 10;

/// A resume state of another machine.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) directory: PathBuf,
    pub(super) files: Vec<StoredFile>,
}

/// Copies the furthest resume state of the job here that an attempt on this device can use, unless this machine is at least
/// as far. The process looks whether its fingerprint fits. Before another attempt than the first a bucket that is away is
/// waited for: without it hours of work might be done again.
pub(super) async fn receive(context: &Context, job: &Job, device: &str) -> Option<Received> {
    let device: DeviceName = device.parse().ok()?;
    let resume_states = context.parts.artifacts.resume_states()?;
    let scratch = context.scratch(job.id);
    let directory = scratch.received(job.attempt);
    let local = local_block(&scratch, &device).await;
    let stored = loop {
        match resume_states.list(job.id).await {
            Ok(stored) => break stored,
            Err(error) if error.may_pass() && job.attempt > 1 => {
                context.wait_for_bucket(&error).await;
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "cannot look up the resume states in the bucket");
                return None;
            }
        }
    };
    for resume_state in stored {
        if device
            .resumed_block(resume_state.state.as_bytes())
            .is_none()
        {
            continue;
        }
        if resume_state.next_block <= local {
            return None;
        }
        let mut tries = 1;
        let copied = loop {
            match copy(&resume_states, job.id, &resume_state, &directory).await {
                Err(error) if error.may_pass() && tries < COPIES => {
                    context.wait_for_bucket(&error).await;
                    tries += 1;
                }
                copied => break copied,
            }
        };
        match copied {
            Ok(()) => {
                let block = resume_state.next_block;
                tracing::info!(block, "resume state copied from the bucket");
                let files = resume_state.files;
                return Some(Received { directory, files });
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "a resume state in the bucket cannot be copied");
            }
        }
    }
    None
}

async fn copy(
    resume_states: &ResumeStates,
    job: JobId,
    resume_state: &StoredState,
    directory: &Path,
) -> Result<(), ArtifactError> {
    let failed = |source| ArtifactError::Local {
        operation: "write",
        path: directory.to_path_buf(),
        source,
    };
    remove(directory).await.map_err(failed)?;
    let made = tokio::fs::create_dir_all(directory).await;
    made.map_err(failed)?;
    for file in &resume_state.files {
        let target = directory.join(&file.entry.name);
        resume_states.fetch(job, file, &target).await?;
    }
    let state = directory.join(RESUME_STATE_FILE);
    let written = tokio::fs::write(state, &resume_state.state).await;
    written.map_err(failed)
}

/// Removes what the process did not take.
pub(in crate::worker) async fn remove(directory: &Path) -> io::Result<()> {
    match tokio::fs::remove_dir_all(directory).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// The block that an earlier attempt on this machine was in; 0 where nothing is left of it that the device can use.
async fn local_block(scratch: &ScratchDir, device: &DeviceName) -> usize {
    let has_copy = tokio::fs::try_exists(scratch.artifact()).await;
    let state = tokio::fs::read(scratch.resume_state().join(RESUME_STATE_FILE)).await;
    let state = state.ok().filter(|_| has_copy.unwrap_or_default());
    let block = state.and_then(|bytes| device.resumed_block(&bytes));
    block.unwrap_or_default()
}

/// Removes a finished job's resume states, up to those of its last attempt: the next one may be storing its own.
pub(in crate::worker) async fn discard(context: &Context, job: JobId, last: u32) {
    let Some(resume_states) = context.parts.artifacts.resume_states() else {
        return;
    };
    if let Err(error) = resume_states.delete_until(job, last).await {
        let error = &error as &dyn std::error::Error;
        tracing::warn!(error, job.id = %job, "cannot remove the resume states in the bucket, the sweep will");
    }
}
