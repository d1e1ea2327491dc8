//! Cancels, pauses, resumes, retries and deletes jobs.

use jiff::Timestamp;
use serde_json::Value;

use super::{Error, Jobs};
use crate::domain::ErrorCode;
use crate::domain::JobId;
use crate::domain::job::Job;
use crate::domain::job::event::Attempt;
use crate::domain::job::state::{Action, JobState};
use crate::instruments;
use crate::request::CancelRequest;
use crate::store::{Requested, StoreError};

impl Jobs {
    /// Performs an action on a job, or requests it from the worker. Idempotent.
    pub async fn request(
        &self,
        id: JobId,
        action: Action,
        if_version: Option<u64>,
    ) -> Result<(Job, Vec<Attempt>), Error> {
        self.check_room_to_queue(id, action).await?;
        let requested = self.parts.store.request(id, action, if_version).await?;
        self.done(id, action, requested)
    }

    /// The same for a cancellation, whose body may say who asks for it and why.
    pub async fn cancel(
        &self,
        id: JobId,
        body: &Value,
        if_version: Option<u64>,
    ) -> Result<(Job, Vec<Attempt>), Error> {
        let request = CancelRequest::parse(body).map_err(Error::Invalid)?;
        let (by, reason) = (request.by.as_deref(), request.reason.as_deref());
        let requested = self.parts.store.cancel(id, if_version, by, reason).await?;
        self.done(id, Action::Cancel, requested)
    }

    fn done(
        &self,
        id: JobId,
        action: Action,
        requested: Option<Requested>,
    ) -> Result<(Job, Vec<Attempt>), Error> {
        match requested.ok_or(Error::JobNotFound(id))? {
            Requested::Done(job, attempts) => {
                self.pass_on(id, job.state);
                count_cancelled(job.state, action);
                Ok((*job, attempts))
            }
            Requested::Unchanged(job, attempts) => Ok((*job, attempts)),
            Requested::NotAllowed(state) => Err(Error::NotAllowed { action, state }),
            Requested::InUse(user) => Err(Error::InUse { id, user }),
            Requested::Stale(version) => Err(Error::Stale { id, version }),
        }
    }

    /// Keeps a job when its retention is over, or not any more. Idempotent.
    pub async fn set_kept(
        &self,
        id: JobId,
        kept: bool,
        if_version: Option<u64>,
    ) -> Result<(Job, Vec<Attempt>), Error> {
        let done = self.parts.store.set_kept(id, kept, if_version).await?;
        match done.ok_or(Error::JobNotFound(id))? {
            Requested::Stale(version) => Err(Error::Stale { id, version }),
            Requested::Done(job, attempts) | Requested::Unchanged(job, attempts) => {
                Ok((*job, attempts))
            }
            Requested::NotAllowed(_) | Requested::InUse(_) => Err(Error::JobNotFound(id)),
        }
    }

    /// When a job that is over will be deleted; `None` = not as it is now.
    pub fn retain_until(&self, job: &Job) -> Option<Timestamp> {
        let retention = self.parts.retention.filter(|_| !job.kept)?;
        Some(job.finished_at? + retention)
    }

    /// Signals the workers of this process. A worker in another process polls once a second.
    fn pass_on(&self, id: JobId, state: JobState) {
        let signals = &self.parts.signals;
        signals.outbox.notify_one();
        match state {
            JobState::Queued => signals.wake.notify_one(),
            JobState::Pausing | JobState::Cancelling => drop(signals.asked.send(id)),
            JobState::Running
            | JobState::Succeeded
            | JobState::Failed
            | JobState::Paused
            | JobState::Cancelled => {}
        }
    }

    /// Deletes a job that is over, and its files. Idempotent.
    pub async fn delete(&self, id: JobId, if_version: Option<u64>) -> Result<(), Error> {
        match self.request(id, Action::Delete, if_version).await {
            Ok((job, attempts)) => {
                tracing::info!(job.id = %id, "job deleted");
                self.remove_artifacts(&job, &attempts).await;
                Ok(())
            }
            Err(Error::JobNotFound(_))
                if self.parts.store.list_deleted(&[id]).await?.contains(&id) =>
            {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Deletes jobs that have been over for as long as they are retained. One whose artifact is in use waits for another round,
    /// and so does one that has changed since it was found: it may be kept now.
    pub async fn delete_expired(&self) -> Result<(), Error> {
        let Some(retention) = self.parts.retention else {
            return Ok(());
        };
        // Those that cannot be read must not keep the others, however many they are.
        let mut unreadable = 0;
        loop {
            let expired = self.parts.store.list_expired(retention, unreadable).await?;
            let before = unreadable;
            for (id, version) in expired {
                unreadable += u32::from(!self.delete_one_expired(id, version).await?);
            }
            if unreadable == before {
                return Ok(());
            }
        }
    }

    /// Whether the job could be read.
    async fn delete_one_expired(&self, id: JobId, version: u64) -> Result<bool, Error> {
        let store = &self.parts.store;
        match store.request(id, Action::Delete, Some(version)).await {
            Ok(Some(Requested::Done(job, attempts))) => {
                tracing::info!(job.id = %id, "job deleted, its retention is over");
                self.pass_on(id, job.state);
                self.remove_artifacts(&job, &attempts).await;
                Ok(true)
            }
            Ok(_) => Ok(true),
            Err(error @ StoreError::Inconsistent { .. }) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, job.id = %id, "a job whose retention is over cannot be read");
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Removes the files of a job; the sweep removes what is left.
    async fn remove_artifacts(&self, job: &Job, attempts: &[Attempt]) {
        let artifacts = &self.parts.artifacts;
        for attempt in attempts {
            if let Err(error) = artifacts.delete_attempt(job.id, attempt.attempt).await {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, job.id = %job.id, "cannot remove the artifact of a deleted job");
            }
        }
        artifacts.remove_empty(job.id).await;
    }

    /// Fails the jobs without a worker that are past their deadline.
    pub async fn end_overdue(&self) -> Result<(), Error> {
        loop {
            let ended = self.parts.store.fail_overdue().await?;
            if ended.is_empty() {
                return Ok(());
            }
            for id in ended {
                tracing::warn!(job.id = %id, "job failed: it was not over by its deadline");
                let code = ErrorCode::DeadlineExceeded.as_str();
                metrics::counter!(instruments::JOBS_FINISHED, "status" => "failed", "code" => code)
                    .increment(1);
            }
        }
    }
}

/// Counts a job that was cancelled without a worker; a worker counts its own.
fn count_cancelled(state: JobState, action: Action) {
    if action == Action::Cancel && state == JobState::Cancelled {
        let code = ErrorCode::Cancelled.as_str();
        metrics::counter!(instruments::JOBS_FINISHED, "status" => "cancelled", "code" => code)
            .increment(1);
    }
}
