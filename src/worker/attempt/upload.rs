//! Copies a job's resume state to the bucket, so that it goes on on another machine.
//!
//! The process of an attempt only says which files make up the state. A state that cannot be stored fails nothing: the
//! one before it stays.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::Instrument as _;

use super::resume::Received;
use crate::artifacts::{ArtifactError, ResumeStates, StoredFile, StoredState};
use crate::domain::JobId;
use crate::domain::attempt::{ResumeFile, ResumePoint};
use crate::domain::job::Job;
use crate::domain::job::attempt_end::AttemptEnd;
use crate::instruments;
use crate::worker::context::Context;

/// How long the last upload of an attempt that is retried may take; at most half a lease, which is not renewed then.
const LAST_TIMEOUT: Duration = Duration::from_secs(20);

/// Uploads an attempt's resume states while it goes on. One that is replaced before its upload begins is left out.
#[derive(Debug)]
pub(super) struct Uploader {
    directory: PathBuf,
    patience: Duration,
    offers: watch::Sender<Option<Arc<Offer>>>,
    task: JoinHandle<()>,
}

/// A resume state with its files open: those that the next one replaces can be read on.
#[derive(Debug)]
struct Offer {
    resume_state: ResumePoint,
    files: Vec<(ResumeFile, File)>,
}

impl Uploader {
    /// `None` where no other machine would see the resume states. `received` is stored already.
    pub(super) fn start(context: &Context, job: &Job, received: Option<&Received>) -> Option<Self> {
        let resume_states = context.parts.artifacts.resume_states()?;
        let (offers, offered) = watch::channel(None);
        let upload = Upload {
            resume_states,
            job: job.id,
            attempt: job.attempt,
            stored: received.map_or_else(Vec::new, |received| received.files.clone()),
        };
        Some(Self {
            directory: context.scratch(job.id).resume_state(),
            patience: LAST_TIMEOUT.min(context.settings.pool.lease_seconds / 2),
            offers,
            task: tokio::spawn(upload.run(offered).in_current_span()),
        })
    }

    /// Stores this one next.
    pub(super) fn offer(&self, resume_state: ResumePoint) {
        let opened = resume_state.files.iter().map(|file| {
            let opened = File::open(self.directory.join(&file.name))?;
            Ok((file.clone(), opened))
        });
        match opened.collect::<io::Result<Vec<_>>>() {
            Ok(files) => drop(self.offers.send_replace(Some(Arc::new(Offer {
                resume_state,
                files,
            })))),
            // The next one has been made already.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(%error, "cannot open a resume state"),
        }
    }

    /// Waits for the last upload, though not for long, where another attempt may follow.
    pub(super) async fn end(self, end: Option<&AttemptEnd>) {
        let Self {
            patience,
            offers,
            mut task,
            directory: _,
        } = self;
        drop(offers);
        let may_go_on = match end {
            Some(AttemptEnd::Failed { error, .. }) => error.failure.retryable,
            Some(
                AttemptEnd::Retry { .. }
                | AttemptEnd::Waiting { .. }
                | AttemptEnd::Paused
                | AttemptEnd::Released,
            ) => true,
            None | Some(AttemptEnd::Succeeded(_) | AttemptEnd::Cancelled | AttemptEnd::Lost) => {
                false
            }
        };
        let patience = if may_go_on { patience } else { Duration::ZERO };
        if tokio::time::timeout(patience, &mut task).await.is_err() {
            task.abort();
        }
    }
}

/// What the task of an [`Uploader`] knows.
struct Upload {
    resume_states: ResumeStates,
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
            let block = offer.resume_state.next_block;
            let outcome = match self.store(&offer).await {
                Ok(()) => {
                    tracing::debug!(block, "resume state stored in the bucket");
                    "stored"
                }
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, block, "cannot store a resume state in the bucket");
                    "failed"
                }
            };
            metrics::counter!(instruments::RESUME_STATES, "outcome" => outcome).increment(1);
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
                .resume_states
                .write_file(job, attempt, file, opened)
                .await?;
            self.stored.push(stored.clone());
            files.push(stored);
        }
        let ResumePoint {
            next_block, state, ..
        } = &offer.resume_state;
        let resume_state = StoredState::new(*next_block, state.clone(), files);
        self.resume_states
            .write(job, attempt, &resume_state)
            .await?;
        let (named, overtaken) = self
            .stored
            .drain(..)
            .partition(|stored| resume_state.files.contains(stored));
        self.stored = named;
        for file in overtaken {
            // Those of an earlier attempt are named by its own index.
            if file.attempt == attempt {
                self.resume_states.delete_file(job, &file).await?;
            }
        }
        Ok(())
    }
}
