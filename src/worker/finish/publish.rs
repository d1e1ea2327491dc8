//! Puts a finished artifact into the store.
//!
//! The scratch directory belongs to the job, not to the attempt. A worker that was stopped for a while may find there
//! what the next attempt is building. So it takes the lock that each attempt's process holds while it works, and looks
//! whether the lease still holds only after that.

use std::io;
use std::path::Path;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::record::STORE_RETRY;
use crate::artifacts::ArtifactError;
use crate::domain::ErrorCode;
use crate::domain::job::attempt_end::AttemptEnd;
use crate::domain::job::failure::AttemptFailure;
use crate::domain::job::progress::Phase;
use crate::domain::job::{Job, Publication};
use crate::domain::report::manifest::{FileEntry, JobReport, Manifest};
use crate::instruments;
use crate::scratch::{ScratchDir, ScratchLock};
use crate::store::{Lease, LeaseCheck};
use crate::worker::context::Context;
use crate::worker::lease::{Limit, while_leased};

/// The manifest's name within the artifact of a job of the type `prune`.
const MANIFEST_FILE: &str = "secateur.json";

/// The report's name within the artifact of a job of the type `evaluate`.
const EVALUATION_FILE: &str = "evaluation.json";

/// How often a lock that is held is tried again.
const LOCK_POLL: Duration = Duration::from_millis(50);

/// Stores the artifact, or says how the attempt ends without it. The lease is renewed meanwhile, and what is asked of the job
/// is heard: across file systems, and into a bucket, this copies gigabytes. What is dropped stays in the scratch directory.
pub(super) async fn publish(
    context: &Context,
    job: &Job,
    lease: &Lease,
    deadline: Option<Instant>,
    report: JobReport,
) -> Result<Publication, AttemptEnd> {
    let work = async {
        let lock = lock(&context.scratch(job.id), job.attempt).await;
        confirm(context, lease).await?;
        let failed = |failure| context.failed_end(job, failure);
        let _lock = lock.map_err(|error| failed(storing_failed(&error)))?;
        // The database reads a report by the type of its job.
        if report.job_type().as_str() != job.spec.job_type() {
            return Err(failed(wrong_type(job, &report)));
        }
        store(context, job, report).await.map_err(failed)
    };
    let limit = Limit {
        deadline,
        phase: Some(Phase::Publishing),
    };
    while_leased(context, job, limit, work).await.flatten()
}

/// A bucket that is away is waited for, as a database is: hours of work hang on it, and another attempt would meet the same.
async fn store(
    context: &Context,
    job: &Job,
    report: JobReport,
) -> Result<Publication, AttemptFailure> {
    let directory = context.scratch(job.id).artifact();
    let files = match &report {
        JobReport::Prune(manifest) => listed_files(&directory, manifest).await,
        JobReport::Evaluate(_) => found_files(&directory).await,
    };
    let files = files.map_err(|error| storing_failed(&error))?;
    let artifacts = &context.parts.artifacts;
    while let Err(error) = artifacts
        .publish(job.id, job.attempt, &directory, &files)
        .await
    {
        if !error.may_pass() {
            return Err(storing_failed(&error));
        }
        context.wait_for_bucket(&error).await;
    }
    let bytes = files.iter().map(|file| file.size_bytes).sum();
    metrics::counter!(instruments::ARTIFACT_BYTES, "direction" => "in").increment(bytes);
    Ok(Publication {
        attempt: job.attempt,
        report,
        files,
    })
}

/// The lock that the attempt's process held until it ended. It may have gone to another attempt's: to that of an earlier one,
/// which sees from the note that it is late and ends, or of a later one, and then the lease is lost.
async fn lock(scratch: &ScratchDir, attempt: u32) -> io::Result<ScratchLock> {
    let mut lock = loop {
        match scratch.try_lock()? {
            Some(lock) => break lock,
            None => tokio::time::sleep(LOCK_POLL).await,
        }
    };
    // It named a process that is gone, and whose number may be another's by now.
    if let Err(error) = lock.note(attempt, None) {
        // Perhaps the disk is full, which is no reason to keep the artifact from a bucket.
        tracing::warn!(%error, "cannot write who works in the scratch directory");
    }
    Ok(lock)
}

/// Goes on only with the database's word that the lease holds. An artifact that is finished before its worker hears of
/// a cancellation or a pause counts, if it is stored as quickly.
async fn confirm(context: &Context, lease: &Lease) -> Result<(), AttemptEnd> {
    loop {
        let held = context
            .parts
            .store
            .heartbeat(lease, context.settings.pool.lease_seconds)
            .await;
        match held {
            Ok(LeaseCheck::Valid | LeaseCheck::CancelRequested | LeaseCheck::PauseRequested) => {
                return Ok(());
            }
            Ok(LeaseCheck::Lost) => return Err(AttemptEnd::Lost),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, job.id = %lease.job_id, "cannot confirm the lease");
            }
        }
        tokio::time::sleep(STORE_RETRY).await;
    }
}

fn wrong_type(job: &Job, report: &JobReport) -> AttemptFailure {
    let code = ErrorCode::Internal;
    let (asked, found) = (job.spec.job_type(), report.job_type());
    let message = format!(
        "the attempt reports on a job of the type {found}, this one is of the type {asked}"
    );
    AttemptFailure::new(code, message, Some(Phase::Publishing))
}

fn storing_failed(error: &(dyn std::error::Error + 'static)) -> AttemptFailure {
    let chain = || std::iter::successors(Some(error), |error| error.source());
    let is_full = chain()
        .filter_map(|error| error.downcast_ref::<io::Error>())
        .any(|error| error.kind() == io::ErrorKind::StorageFull);
    let is_away = |error: &ArtifactError| matches!(error, ArtifactError::Bucket { .. });
    let code = if is_full {
        ErrorCode::InsufficientDisk
    } else if error.downcast_ref::<ArtifactError>().is_some_and(is_away) {
        ErrorCode::Unavailable
    } else {
        ErrorCode::Io
    };
    // The chain names directories of this server, which only the operator may know.
    tracing::error!(error, "cannot store the artifact");
    let message = "the artifact cannot be stored; the server's log says why".to_owned();
    AttemptFailure::new(code, message, Some(Phase::Publishing))
}

/// What the manifest lists, checked to be there, and the manifest itself.
async fn listed_files(directory: &Path, manifest: &Manifest) -> io::Result<Vec<FileEntry>> {
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
    files.push(file_entry(MANIFEST_FILE.to_owned(), &content));
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

/// Whatever files an evaluation left, its report among them.
async fn found_files(directory: &Path) -> io::Result<Vec<FileEntry>> {
    let mut files = Vec::new();
    let mut entries = tokio::fs::read_dir(directory).await?;
    while let Some(entry) = entries.next_entry().await? {
        let name = entry.file_name().into_string();
        let name =
            name.map_err(|name| io::Error::other(format!("{} is not UTF-8", name.display())))?;
        files.push(file_entry(name, &tokio::fs::read(entry.path()).await?));
    }
    if !files.iter().any(|file| file.name == EVALUATION_FILE) {
        return Err(io::Error::other(format!("there is no {EVALUATION_FILE}")));
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

fn file_entry(name: String, content: &[u8]) -> FileEntry {
    FileEntry {
        name,
        size_bytes: content.len() as u64,
        sha256: hex::encode(Sha256::digest(content)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::fs::File;

    use super::*;
    use crate::domain::job::failure::JobError;
    use crate::domain::job::state::Action;
    use crate::worker::fixture::{build_artifact, claimed, context};

    #[tokio::test]
    async fn a_worker_that_lost_its_lease_stores_nothing() {
        let home = tempfile::tempdir().unwrap();
        let context = context(home.path()).await;
        let job = claimed(&context).await;
        let (_, report) = build_artifact(&context, &job);
        let lease = Lease::of(&job).unwrap();
        let reaped = AttemptEnd::Retry {
            error: JobError::crash(1, None, "gone".to_owned()),
            crashed: true,
            delay: std::time::Duration::ZERO,
        };
        let reaped = context.parts.store.finish(&lease, &reaped, None).await;
        assert!(reaped.unwrap().is_some());
        let published = publish(&context, &job, &lease, None, report).await;
        assert!(matches!(published, Err(AttemptEnd::Lost)), "{published:?}");
        assert!(
            context
                .parts
                .artifacts
                .list(&HashSet::new())
                .await
                .unwrap()
                .is_empty()
        );
    }

    #[tokio::test]
    async fn what_another_attempt_has_locked_is_waited_for() {
        let home = tempfile::tempdir().unwrap();
        let context = context(home.path()).await;
        let job = claimed(&context).await;
        let (directory, report) = build_artifact(&context, &job);
        let lease = Lease::of(&job).unwrap();
        let path = context.scratch(job.id).lock_path();
        std::fs::write(&path, "1 4711\n").unwrap();
        let other = File::open(&path).unwrap();
        other.lock().unwrap();
        let publishing = publish(&context, &job, &lease, None, report.clone());
        let published = tokio::time::timeout(3 * LOCK_POLL, publishing).await;
        assert!(published.is_err(), "{published:?}");
        assert!(
            context
                .parts
                .artifacts
                .list(&HashSet::new())
                .await
                .unwrap()
                .is_empty()
        );
        drop(other);
        let published = publish(&context, &job, &lease, None, report).await;
        assert_eq!(published.unwrap().attempt, 1);
        // The next attempt's, should the database not take it.
        assert!(directory.try_exists().unwrap());
        assert_eq!(std::fs::read_to_string(path).unwrap(), "1\n");
    }

    #[tokio::test]
    async fn what_is_asked_while_an_artifact_waits_is_heard() {
        let home = tempfile::tempdir().unwrap();
        let context = context(home.path()).await;
        let job = claimed(&context).await;
        let (_, report) = build_artifact(&context, &job);
        let lease = Lease::of(&job).unwrap();
        let other = File::create(context.scratch(job.id).lock_path()).unwrap();
        other.lock().unwrap();
        let overdue = publish(&context, &job, &lease, Some(Instant::now()), report.clone()).await;
        let phase = Some(Phase::Publishing);
        assert!(
            matches!(&overdue, Err(AttemptEnd::Failed { error, .. }) if error.failure.phase == phase && error.failure.code == ErrorCode::DeadlineExceeded),
            "{overdue:?}"
        );
        let paused = context.parts.store.request(job.id, Action::Pause, None);
        paused.await.unwrap();
        let paused = publish(&context, &job, &lease, None, report.clone()).await;
        assert!(matches!(paused, Err(AttemptEnd::Paused)), "{paused:?}");
        context.stop.cancel();
        let stopped = publish(&context, &job, &lease, None, report).await;
        assert!(matches!(stopped, Err(AttemptEnd::Released)), "{stopped:?}");
    }
}
