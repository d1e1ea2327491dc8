//! Carries checkpoints to the bucket and back, so that a job goes on on another machine.
//!
//! The process of an attempt knows nothing of it: it says which files make a checkpoint, and finds those that came from
//! elsewhere in a directory. A checkpoint that cannot be stored fails nothing; the one before it stays.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::Instrument as _;

use super::Context;
use super::supervise::Ended;
use crate::artifacts::{ArtifactError, Checkpoints, StoredCheckpoint, StoredFile};
use crate::domain::JobId;
use crate::domain::attempt::{CheckpointFile, JOURNAL_DIR, JOURNAL_STATE_FILE, PortableCheckpoint};
use crate::domain::job::Job;

/// How long the last checkpoint of an attempt that will be tried again may take to the bucket; at most half a lease, which
/// nobody renews then.
const LAST: Duration = Duration::from_secs(20);

/// How often a checkpoint is asked for, minutes in all, before the one before it is: the bucket may have lost one object
/// only.
const COPIES: u32 = 10;

/// A checkpoint of another machine.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) directory: PathBuf,
    files: Vec<StoredFile>,
}

/// Copies the furthest checkpoint of the job here, unless this machine is at least as far. The process looks whether it
/// fits. Before another attempt than the first a bucket that is away is waited for: without it hours of work might be done
/// again.
pub(super) async fn receive(context: &Context, job: &Job) -> Option<Received> {
    let checkpoints = context.parts.artifacts.checkpoints()?;
    let scratch = context.scratch(job.id);
    let directory = scratch.join(format!("received-{}", job.attempt));
    let local = local_block(&scratch).await;
    let stored = loop {
        match checkpoints.list(job.id).await {
            Ok(stored) => break stored,
            Err(error) if error.may_pass() && job.attempt > 1 => {
                context.wait_for_bucket(&error).await;
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "cannot look up the checkpoints in the bucket");
                return None;
            }
        }
    };
    for checkpoint in stored {
        if checkpoint.next_block <= local {
            return None;
        }
        let mut tries = 1;
        let copied = loop {
            match copy(&checkpoints, job.id, &checkpoint, &directory).await {
                Err(error) if error.may_pass() && tries < COPIES => {
                    context.wait_for_bucket(&error).await;
                    tries += 1;
                }
                copied => break copied,
            }
        };
        match copied {
            Ok(()) => {
                let block = checkpoint.next_block;
                tracing::info!(block, "checkpoint copied from the bucket");
                let files = checkpoint.files;
                return Some(Received { directory, files });
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "a checkpoint in the bucket cannot be copied");
            }
        }
    }
    None
}

async fn copy(
    checkpoints: &Checkpoints,
    job: JobId,
    checkpoint: &StoredCheckpoint,
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
    for file in &checkpoint.files {
        let target = directory.join(&file.entry.name);
        checkpoints.fetch(job, file, &target).await?;
    }
    let state = directory.join(JOURNAL_STATE_FILE);
    let written = tokio::fs::write(state, &checkpoint.state).await;
    written.map_err(failed)
}

/// Removes what the process did not take.
pub(super) async fn remove(directory: &Path) -> io::Result<()> {
    match tokio::fs::remove_dir_all(directory).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// The block that an earlier attempt on this machine was in; 0 where nothing is left of it.
async fn local_block(scratch: &Path) -> usize {
    #[derive(Deserialize)]
    struct State {
        next_block: usize,
    }
    let has_copy = tokio::fs::try_exists(scratch.join("artifact")).await;
    let state = tokio::fs::read(scratch.join(JOURNAL_DIR).join(JOURNAL_STATE_FILE)).await;
    let state = state.ok().filter(|_| has_copy.unwrap_or_default());
    let state = state.and_then(|bytes| serde_json::from_slice::<State>(&bytes).ok());
    state.map_or(0, |state| state.next_block)
}

/// Removes a finished job's checkpoints, up to those of its last attempt: the next one may be storing its own.
pub(super) async fn discard(context: &Context, job: JobId, last: u32) {
    let Some(checkpoints) = context.parts.artifacts.checkpoints() else {
        return;
    };
    if let Err(error) = checkpoints.delete_until(job, last).await {
        let error = &error as &dyn std::error::Error;
        tracing::warn!(error, job.id = %job, "cannot remove the checkpoints in the bucket, the sweep will");
    }
}

/// Stores an attempt's checkpoints while it goes on. One that is overtaken by the next before its turn is left out.
#[derive(Debug)]
pub(super) struct Uploader {
    journal: PathBuf,
    patience: Duration,
    offers: watch::Sender<Option<Arc<Offer>>>,
    task: JoinHandle<()>,
}

/// A checkpoint with its files open: those that the next one replaces can be read on.
#[derive(Debug)]
struct Offer {
    checkpoint: PortableCheckpoint,
    files: Vec<(CheckpointFile, File)>,
}

impl Uploader {
    /// `None` where no other machine would see the checkpoints. `received` is stored already.
    pub(super) fn start(context: &Context, job: &Job, received: Option<&Received>) -> Option<Self> {
        let checkpoints = context.parts.artifacts.checkpoints()?;
        let (offers, offered) = watch::channel(None);
        let upload = Upload {
            checkpoints,
            job: job.id,
            attempt: job.attempt,
            stored: received.map_or_else(Vec::new, |received| received.files.clone()),
        };
        Some(Self {
            journal: context.scratch(job.id).join(JOURNAL_DIR),
            patience: LAST.min(context.settings.lease / 2),
            offers,
            task: tokio::spawn(upload.run(offered).in_current_span()),
        })
    }

    /// Stores this one next.
    pub(super) fn offer(&self, checkpoint: PortableCheckpoint) {
        let opened = checkpoint.files.iter().map(|file| {
            let opened = File::open(self.journal.join(&file.name))?;
            Ok((file.clone(), opened))
        });
        match opened.collect::<io::Result<Vec<_>>>() {
            Ok(files) => drop(
                self.offers
                    .send_replace(Some(Arc::new(Offer { checkpoint, files }))),
            ),
            // The next one has been made already.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(%error, "cannot open a checkpoint"),
        }
    }

    /// Where another attempt may follow, the last checkpoint is waited for, though not for long.
    pub(super) async fn end(self, ended: &Ended) {
        let Self {
            patience,
            offers,
            mut task,
            journal: _,
        } = self;
        drop(offers);
        let patience = match ended {
            Ended::Failed(failure) if failure.retryable => patience,
            Ended::Crashed { .. } | Ended::Paused | Ended::Stopped => patience,
            Ended::Succeeded(_)
            | Ended::Failed(_)
            | Ended::Cancelled
            | Ended::Overdue { .. }
            | Ended::Lost => Duration::ZERO,
        };
        if tokio::time::timeout(patience, &mut task).await.is_err() {
            task.abort();
        }
    }
}

/// What the task of an [`Uploader`] knows.
struct Upload {
    checkpoints: Checkpoints,
    job: JobId,
    attempt: u32,
    /// Files that need not be stored again.
    stored: Vec<StoredFile>,
}

impl Upload {
    async fn run(mut self, mut offered: watch::Receiver<Option<Arc<Offer>>>) {
        while offered.changed().await.is_ok() {
            let Some(offer) = offered.borrow_and_update().clone() else {
                continue;
            };
            let block = offer.checkpoint.next_block;
            let outcome = match self.store(&offer).await {
                Ok(()) => {
                    tracing::debug!(block, "checkpoint stored in the bucket");
                    "stored"
                }
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, block, "cannot store a checkpoint in the bucket");
                    "failed"
                }
            };
            metrics::counter!("secateur_checkpoints_total", "outcome" => outcome).increment(1);
        }
    }

    async fn store(&mut self, offer: &Offer) -> Result<(), ArtifactError> {
        let (job, attempt) = (self.job, self.attempt);
        let mut files = Vec::new();
        for (file, opened) in &offer.files {
            if let Some(stored) = self.stored.iter().find(|stored| stored.is(file)) {
                files.push(stored.clone());
                continue;
            }
            let opened = opened.try_clone().map_err(|source| ArtifactError::Local {
                operation: "read",
                path: file.name.as_str().into(),
                source,
            })?;
            let stored = self
                .checkpoints
                .write_file(job, attempt, file, opened)
                .await?;
            self.stored.push(stored.clone());
            files.push(stored);
        }
        let PortableCheckpoint {
            next_block, state, ..
        } = &offer.checkpoint;
        let checkpoint = StoredCheckpoint::new(*next_block, state.clone(), files);
        self.checkpoints.write(job, attempt, &checkpoint).await?;
        let (named, overtaken) = self
            .stored
            .drain(..)
            .partition(|stored| checkpoint.files.contains(stored));
        self.stored = named;
        for file in overtaken {
            // Those of an earlier attempt are named by its own index.
            if file.attempt == attempt {
                self.checkpoints.delete_file(job, &file).await?;
            }
        }
        Ok(())
    }
}
