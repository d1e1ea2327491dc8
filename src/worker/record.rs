//! Writes down how an attempt ended, and clears up after it.

use std::io;
use std::path::Path;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::Context;
use super::supervise::Ended;
use crate::domain::attempt::Phase;
use crate::domain::job::{Job, JobError, Publication};
use crate::domain::manifest::FileEntry;
use crate::domain::{AttemptFailure, ErrorCode, JobState, Manifest};
use crate::store::{Ending, Lease};

/// The manifest's name within the artifact.
const MANIFEST_FILE: &str = "secateur.json";

/// The longest wait between two attempts.
const MAX_RETRY_DELAY: Duration = Duration::from_mins(5);

/// Wait before the database is asked again to take an ending.
const FINISH_RETRY: Duration = Duration::from_secs(1);

/// Brings an attempt to its end: files first, then the one transaction that makes them visible, then the clearing up.
pub(super) async fn record(context: &Context, job: &Job, ended: Ended) {
    let Some(lease) = Lease::of(job) else { return };
    let Some(ending) = ending(context, job, &lease, ended).await else {
        return discard(context, job).await;
    };
    log(job, &ending);
    match finish(context, &lease, &ending).await {
        Some(true) => {
            count(&ending);
            remove_scratch_of_terminal(context, job).await;
        }
        Some(false) => discard(context, job).await,
        // The pool was stopped while the database was away: the sweep finds the lease when it is back.
        None => {}
    }
}

/// `None` when the lease is lost.
async fn ending(context: &Context, job: &Job, lease: &Lease, ended: Ended) -> Option<Ending> {
    let failure = |failure| JobError {
        failure,
        attempt: job.attempt,
    };
    match ended {
        Ended::Succeeded(manifest) => Some(match publish(context, job, lease, *manifest).await {
            Ok(publication) => Ending::Succeeded(Box::new(publication)),
            Err(error) => failed(context, job, failure(error), false),
        }),
        Ended::Failed(error) => Some(failed(context, job, failure(error), false)),
        Ended::Crashed { message, phase } => Some(failed(
            context,
            job,
            JobError::crash(job.attempt, phase, message),
            true,
        )),
        Ended::Cancelled => Some(Ending::Cancelled),
        Ended::Stopped => Some(Ending::Released),
        Ended::Lost => None,
    }
}

/// Another attempt where one may help and is left.
fn failed(context: &Context, job: &Job, error: JobError, crashed: bool) -> Ending {
    if error.failure.retryable && !job.is_last_attempt() {
        let run_after =
            context.now() + retry_delay(context.settings.retry_delay, job.failed_attempts);
        Ending::Retry {
            error,
            crashed,
            run_after,
        }
    } else {
        Ending::Failed { error, crashed }
    }
}

/// The first delay, doubled with each failed attempt, at most [`MAX_RETRY_DELAY`].
fn retry_delay(first: Duration, failed_attempts: u32) -> Duration {
    first
        .saturating_mul(2_u32.saturating_pow(failed_attempts))
        .min(MAX_RETRY_DELAY)
}

/// Moves the artifact in. The lease is renewed meanwhile: across file systems this copies gigabytes.
async fn publish(
    context: &Context,
    job: &Job,
    lease: &Lease,
    manifest: Manifest,
) -> Result<Publication, AttemptFailure> {
    let directory = context.scratch(job.id).join("artifact");
    let work = async {
        let files = artifact_files(&directory, &manifest)
            .await
            .map_err(|error| storing_failed(&error))?;
        let published = context
            .parts
            .artifacts
            .publish(job.id, job.attempt, &directory)
            .await;
        published.map_err(|error| storing_failed(&error))?;
        Ok(Publication {
            attempt: job.attempt,
            manifest,
            files,
        })
    };
    tokio::pin!(work);
    loop {
        tokio::select! {
            result = &mut work => return result,
            () = tokio::time::sleep(context.settings.heartbeat) => {
                if let Err(error) = context.parts.store.heartbeat(lease, context.lease_end()).await {
                    tracing::warn!(error = &error as &dyn std::error::Error, job.id = %job.id, "cannot renew the lease");
                }
            }
        }
    }
}

fn storing_failed(error: &(dyn std::error::Error + 'static)) -> AttemptFailure {
    let chain = || std::iter::successors(Some(error), |error| error.source());
    let is_full = chain()
        .filter_map(|error| error.downcast_ref::<io::Error>())
        .any(|error| error.kind() == io::ErrorKind::StorageFull);
    let code = if is_full {
        ErrorCode::InsufficientDisk
    } else {
        ErrorCode::Io
    };
    let message = chain().fold("cannot store the artifact".to_owned(), |message, error| {
        format!("{message}: {error}")
    });
    AttemptFailure {
        code,
        message,
        phase: Some(Phase::Publishing),
        retryable: code.retryable(),
    }
}

/// What the manifest lists, checked to be there, and the manifest itself.
async fn artifact_files(directory: &Path, manifest: &Manifest) -> io::Result<Vec<FileEntry>> {
    for file in &manifest.files {
        let length = tokio::fs::metadata(directory.join(&file.name)).await?.len();
        if length != file.size_bytes {
            let message = format!(
                "{} has {length} bytes, the manifest says {}",
                file.name, file.size_bytes
            );
            return Err(io::Error::other(message));
        }
    }
    let content = tokio::fs::read(directory.join(MANIFEST_FILE)).await?;
    let mut files = manifest.files.clone();
    files.push(FileEntry {
        name: MANIFEST_FILE.to_owned(),
        size_bytes: content.len() as u64,
        sha256: hex::encode(Sha256::digest(&content)),
    });
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

/// Hours of work hang on this one statement, so it is tried until the database answers or the pool is stopped.
async fn finish(context: &Context, lease: &Lease, ending: &Ending) -> Option<bool> {
    loop {
        match context
            .parts
            .store
            .finish(lease, ending, None, context.now())
            .await
        {
            Ok(is_written) => return Some(is_written),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, job.id = %lease.job_id, "cannot write the end of an attempt");
            }
        }
        if context.stop.is_cancelled() {
            return None;
        }
        context.pause(FINISH_RETRY).await;
    }
}

/// Nothing was written, so nothing of this attempt may remain, unless it was this very attempt that succeeded: a
/// commit whose answer was lost is tried again, and the second time there is no lease any more.
async fn discard(context: &Context, job: &Job) {
    let found = context.parts.store.lookup_job(job.id).await;
    let result = match found {
        Ok(Some(now)) if now.state == JobState::Succeeded && now.attempt == job.attempt => return,
        Ok(_) => {
            context
                .parts
                .artifacts
                .delete_attempt(job.id, job.attempt)
                .await
        }
        // What is left then is for the sweep.
        Err(_) => Ok(()),
    };
    metrics::counter!("secateur_fenced_writes_total").increment(1);
    tracing::warn!(job.id = %job.id, job.attempt = job.attempt, "lease lost, attempt discarded");
    if let Err(error) = result {
        let error = &error as &dyn std::error::Error;
        tracing::warn!(error, job.id = %job.id, "cannot remove what a lost attempt left, the sweep will");
    }
}

/// The scratch directory is kept for the next attempt, if there will be one.
async fn remove_scratch_of_terminal(context: &Context, job: &Job) {
    let is_terminal = match context.parts.store.lookup_job(job.id).await {
        Ok(found) => found.is_none_or(|job| job.state.is_terminal()),
        Err(_) => false,
    };
    if !is_terminal {
        return;
    }
    if let Err(error) = tokio::fs::remove_dir_all(context.scratch(job.id)).await {
        tracing::warn!(%error, job.id = %job.id, "cannot remove the scratch directory, the sweep will");
    }
}

fn log(job: &Job, ending: &Ending) {
    let (id, attempt) = (job.id, job.attempt);
    match ending {
        Ending::Succeeded(publication) => {
            tracing::info!(job.id = %id, job.attempt = attempt, digest = publication.manifest.digest, "job succeeded");
        }
        Ending::Failed { error, .. } => {
            let (code, message) = (error.failure.code.as_str(), error.failure.message.as_str());
            tracing::error!(job.id = %id, job.attempt = attempt, code, message, "job failed");
        }
        Ending::Retry {
            error, run_after, ..
        } => {
            let (code, message) = (error.failure.code.as_str(), error.failure.message.as_str());
            tracing::warn!(job.id = %id, job.attempt = attempt, code, message, %run_after, "attempt failed, will retry");
        }
        Ending::Cancelled => tracing::info!(job.id = %id, job.attempt = attempt, "job cancelled"),
        Ending::Released => {
            tracing::info!(job.id = %id, job.attempt = attempt, "attempt given back");
        }
    }
}

/// Counts an ending that was written.
pub(super) fn count(ending: &Ending) {
    let (outcome, finished) = match ending {
        Ending::Succeeded(_) => ("succeeded", Some(("succeeded", "none"))),
        Ending::Failed { error, crashed } => (
            if *crashed { "crashed" } else { "failed" },
            Some(("failed", error.failure.code.as_str())),
        ),
        Ending::Retry { crashed, .. } => (if *crashed { "crashed" } else { "failed" }, None),
        Ending::Cancelled => (
            "cancelled",
            Some(("cancelled", ErrorCode::Cancelled.as_str())),
        ),
        Ending::Released => ("released", None),
    };
    metrics::counter!("secateur_job_attempts_total", "outcome" => outcome).increment(1);
    if let Some((status, code)) = finished {
        metrics::counter!("secateur_jobs_finished_total", "status" => status, "code" => code)
            .increment(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_a_limit() {
        let first = Duration::from_secs(5);
        assert_eq!(
            [0, 1, 2].map(|failed| retry_delay(first, failed).as_secs()),
            [5, 10, 20]
        );
        assert_eq!(retry_delay(first, u32::MAX), MAX_RETRY_DELAY);
    }
}
