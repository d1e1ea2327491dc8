//! Puts a finished artifact into the store.
//!
//! The scratch directory belongs to the job, not to the attempt. A worker that was stopped for a while may find there
//! what the next attempt is building. So it takes the lock that each attempt's process holds while it works, and looks
//! whether the lease still holds only after that.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::Context;
use super::record::{Aborted, STORE_RETRY};
use crate::artifacts::ArtifactError;
use crate::domain::attempt::Phase;
use crate::domain::job::{Job, Publication};
use crate::domain::manifest::FileEntry;
use crate::domain::{AttemptFailure, ErrorCode, JobReport, Manifest};
use crate::store::{Held, Lease};

/// The manifest's name within the artifact of a job of the type `prune`.
const MANIFEST_FILE: &str = "secateur.json";

/// The report's name within the artifact of a job of the type `evaluate`.
const EVALUATION_FILE: &str = "evaluation.json";

/// Why an artifact was not stored.
#[derive(Debug)]
pub(super) enum Unpublished {
    /// It is not ours any more, or that cannot be known.
    Aborted(Aborted),
    /// It could not be stored.
    Failed(AttemptFailure),
}

impl From<Aborted> for Unpublished {
    fn from(aborted: Aborted) -> Self {
        Self::Aborted(aborted)
    }
}

/// Stores the artifact. The lease is renewed meanwhile: across file systems, and into a bucket, this copies gigabytes.
pub(super) async fn publish(
    context: &Context,
    job: &Job,
    lease: &Lease,
    report: JobReport,
) -> Result<Publication, Unpublished> {
    let scratch = context.scratch(job.id);
    let lock = lock(&scratch);
    confirm(context, lease).await?;
    let _lock = lock.map_err(|error| Unpublished::Failed(storing_failed(&error)))?;
    // The database reads a report by the type of its job.
    if report.job_type() != job.spec.job_type() {
        return Err(Unpublished::Failed(wrong_type(job, &report)));
    }
    let directory = scratch.join("artifact");
    let work = async {
        let files = match &report {
            JobReport::Prune(manifest) => listed_files(&directory, manifest).await,
            JobReport::Evaluate(_) => found_files(&directory).await,
        };
        let files = files.map_err(|error| storing_failed(&error))?;
        let published = context
            .parts
            .artifacts
            .publish(job.id, job.attempt, &directory, &files)
            .await;
        published.map_err(|error| storing_failed(&error))?;
        let bytes = files.iter().map(|file| file.size_bytes).sum();
        metrics::counter!("secateur_artifact_bytes_total", "direction" => "in").increment(bytes);
        Ok(Publication {
            attempt: job.attempt,
            report,
            files,
        })
    };
    tokio::pin!(work);
    loop {
        tokio::select! {
            result = &mut work => return result.map_err(Unpublished::Failed),
            () = tokio::time::sleep(context.settings.heartbeat) => {
                if let Err(error) = context.parts.store.heartbeat(lease, context.settings.lease).await {
                    tracing::warn!(error = &error as &dyn std::error::Error, job.id = %job.id, "cannot renew the lease");
                }
            }
        }
    }
}

/// The lock that the attempt's process held until it ended. Who holds it now is another attempt.
fn lock(scratch: &Path) -> io::Result<File> {
    // What is written there is the attempt's own business.
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    let file = options.open(scratch.join("lock"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let message = format!("another attempt works in {}", scratch.display());
            Err(io::Error::other(message))
        }
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Goes on only with the database's word that the lease holds. An artifact that is finished before its worker hears of
/// a cancellation or a pause counts.
async fn confirm(context: &Context, lease: &Lease) -> Result<(), Aborted> {
    loop {
        let held = context
            .parts
            .store
            .heartbeat(lease, context.settings.lease)
            .await;
        match held {
            Ok(Held::Yes | Held::CancelRequested | Held::PauseRequested) => return Ok(()),
            Ok(Held::Lost) => return Err(Aborted::Lost),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, job.id = %lease.job_id, "cannot confirm the lease");
            }
        }
        if context.stop.is_cancelled() {
            return Err(Aborted::Stopped);
        }
        context.pause(STORE_RETRY).await;
    }
}

fn wrong_type(job: &Job, report: &JobReport) -> AttemptFailure {
    let code = ErrorCode::Internal;
    let (asked, found) = (job.spec.job_type(), report.job_type());
    AttemptFailure {
        code,
        message: format!(
            "the attempt reports on a job of the type {found}, this one is of the type {asked}"
        ),
        phase: Some(Phase::Publishing),
        retryable: code.retryable(),
    }
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
    // The chain names directories of this server, which are nobody's business but the operator's.
    tracing::error!(error, "cannot store the artifact");
    AttemptFailure {
        code,
        message: "the artifact cannot be stored; the server's log says why".to_owned(),
        phase: Some(Phase::Publishing),
        retryable: code.retryable(),
    }
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
    use super::*;
    use crate::domain::job::JobError;
    use crate::store::Ending;
    use crate::worker::fixture::{build_artifact, claimed, context};

    #[tokio::test]
    async fn a_worker_that_lost_its_lease_stores_nothing() {
        let home = tempfile::tempdir().unwrap();
        let context = context(home.path()).await;
        let job = claimed(&context).await;
        let (_, report) = build_artifact(&context, &job);
        let lease = Lease::of(&job).unwrap();
        let reaped = Ending::Retry {
            error: JobError::crash(1, None, "gone".to_owned()),
            crashed: true,
            delay: std::time::Duration::ZERO,
        };
        let reaped = context.parts.store.finish(&lease, &reaped, None).await;
        assert!(reaped.unwrap().is_some());
        let published = publish(&context, &job, &lease, report).await;
        assert!(
            matches!(published, Err(Unpublished::Aborted(Aborted::Lost))),
            "{published:?}"
        );
        assert!(context.parts.artifacts.list().await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn what_another_attempt_has_locked_is_not_stored() {
        let home = tempfile::tempdir().unwrap();
        let context = context(home.path()).await;
        let job = claimed(&context).await;
        let (directory, report) = build_artifact(&context, &job);
        let lease = Lease::of(&job).unwrap();
        let other = File::create(context.scratch(job.id).join("lock")).unwrap();
        other.lock().unwrap();
        let published = publish(&context, &job, &lease, report.clone()).await;
        assert!(
            matches!(&published, Err(Unpublished::Failed(failure)) if failure.code == ErrorCode::Io),
            "{published:?}"
        );
        drop(other);
        let published = publish(&context, &job, &lease, report).await.unwrap();
        assert_eq!(published.attempt, 1);
        // The next attempt's, should the database not take it.
        assert!(directory.try_exists().unwrap());
    }
}
