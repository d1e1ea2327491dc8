//! Looks over what dead workers left: their jobs, their scratch directories, their unfinished artifacts.

use std::io;
use std::sync::Arc;

use super::presence;
use super::record::count;
use super::{Context, jittered};
use crate::artifacts::ArtifactError;
use crate::domain::job::{Job, JobError, JobId};
use crate::domain::state::JobState;
use crate::store::{Ending, Lease, StoreError};

/// Part of a sweep did not work; the next one tries again.
#[derive(Debug, thiserror::Error)]
enum SweepError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Artifacts(#[from] ArtifactError),
    #[error("cannot look over the data directory")]
    Io(#[from] io::Error),
}

pub(super) async fn sweep_forever(context: Arc<Context>) {
    loop {
        context.pause(jittered(context.settings.sweep)).await;
        if context.stop.is_cancelled() {
            return;
        }
        sweep(&context).await;
    }
}

/// One round. Its parts do not depend on each other.
pub(super) async fn sweep(context: &Context) {
    let parts = [
        ("leases", reap_leases(context).await),
        ("scratch", remove_scratch(context).await),
        ("artifacts", remove_attempts(context).await),
    ];
    for (part, result) in parts {
        if let Err(error) = result {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                part,
                "sweep failed"
            );
        }
    }
}

async fn reap_leases(context: &Context) -> Result<(), SweepError> {
    for job in context.parts.store.list_leased().await? {
        let Some(lease) = Lease::of(&job) else {
            continue;
        };
        if context.is_active(job.id) && lease.owner == context.worker_id() {
            continue;
        }
        let Some(reason) = reason_to_reap(context, &job, &lease) else {
            continue;
        };
        let ending = ending(context, &job, reason);
        // In the holder's name, and only if it has not been heard of meanwhile.
        let is_written = context
            .parts
            .store
            .finish(&lease, &ending, job.lease_expires_at, context.now())
            .await?;
        if is_written {
            count(&ending);
            metrics::counter!("secateur_leases_reaped_total").increment(1);
            tracing::warn!(job.id = %job.id, job.attempt = job.attempt, worker.id = lease.owner, reason, "lease reaped");
            context.parts.wake.notify_one();
        }
    }
    presence::remove_dead(&context.settings.workers_dir)?;
    Ok(())
}

fn reason_to_reap(context: &Context, job: &Job, lease: &Lease) -> Option<&'static str> {
    if presence::is_dead(&context.settings.workers_dir, &lease.owner) {
        Some("the worker died")
    } else if job.lease_expires_at.is_some_and(|end| end <= context.now()) {
        Some("the worker did not renew its lease")
    } else {
        None
    }
}

fn ending(context: &Context, job: &Job, reason: &str) -> Ending {
    let error = JobError::crash(job.attempt, job.phase, reason.to_owned());
    if job.state == JobState::Cancelling {
        Ending::Cancelled
    } else if job.is_last_attempt() {
        Ending::Failed {
            error,
            crashed: true,
        }
    } else {
        Ending::Retry {
            error,
            crashed: true,
            run_after: context.now(),
        }
    }
}

/// Scratch directories of jobs that nobody will work on again.
async fn remove_scratch(context: &Context) -> Result<(), SweepError> {
    let mut entries = match tokio::fs::read_dir(&context.settings.scratch_dir).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    while let Some(entry) = entries.next_entry().await? {
        let id = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<JobId>().ok());
        // What is not a job's directory is not ours.
        let Some(id) = id else { continue };
        let job = context.parts.store.lookup_job(id).await?;
        if job.is_none_or(|job| job.state.is_terminal()) && !context.is_active(id) {
            tokio::fs::remove_dir_all(entry.path()).await?;
            tracing::info!(job.id = %id, "leftover scratch directory removed");
        }
    }
    Ok(())
}

/// Artifacts of attempts that did not become, and will not become, their job's result.
async fn remove_attempts(context: &Context) -> Result<(), SweepError> {
    for (id, attempt) in context.parts.artifacts.list_attempts().await? {
        let job = context.parts.store.lookup_job(id).await?;
        let is_needed = job.is_some_and(|job| match job.state {
            JobState::Running | JobState::Cancelling | JobState::Succeeded => {
                job.attempt == attempt
            }
            JobState::Queued | JobState::Failed | JobState::Cancelled => false,
        });
        if !is_needed {
            context.parts.artifacts.delete_attempt(id, attempt).await?;
            tracing::info!(job.id = %id, job.attempt = attempt, "leftover artifact removed");
        }
    }
    Ok(())
}
