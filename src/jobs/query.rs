//! Reading jobs, their logs, and what a submission may name.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Error, Jobs};
use crate::corpora::{Corpus, Use};
use crate::domain::JobId;
use crate::domain::job::event::{Attempt, Event};
use crate::domain::job::phases;
use crate::domain::job::progress::Phase;
use crate::domain::job::state::JobState;
use crate::domain::job::{Job, JobFilter};
use crate::domain::task_info::TaskInfo;
pub use crate::models::{CheckedModel, FoundModel};
use crate::request::Defaults;

/// A page of jobs.
#[derive(Debug, Clone, PartialEq)]
pub struct JobPage {
    /// Newest first.
    pub jobs: Vec<Job>,
    /// Where the next page begins; `None` on the last one.
    pub next: Option<JobId>,
}

/// The registered data sets that are available.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisteredData {
    /// To calibrate on.
    pub calibration: Vec<&'static Corpus>,
    /// To measure on.
    pub evaluation: Vec<&'static Corpus>,
    /// Every declared task.
    pub tasks: Vec<TaskInfo>,
}

impl Jobs {
    /// One job.
    pub async fn get(&self, id: JobId) -> Result<Job, Error> {
        self.parts
            .store
            .lookup_job(id)
            .await?
            .ok_or(Error::JobNotFound(id))
    }

    /// One job and its attempts, as they were at one moment.
    pub async fn get_with_attempts(&self, id: JobId) -> Result<(Job, Vec<Attempt>), Error> {
        let found = self.parts.store.lookup_job_with_attempts(id).await?;
        found.ok_or(Error::JobNotFound(id))
    }

    /// A page of jobs, newest first, that begins after `before`.
    pub async fn list(
        &self,
        filter: &JobFilter,
        before: Option<JobId>,
        limit: u32,
    ) -> Result<JobPage, Error> {
        // One more than asked tells whether there is a next page.
        let mut jobs = self
            .parts
            .store
            .list_jobs(filter, before, limit + 1)
            .await?;
        let has_more = jobs.len() > limit as usize;
        jobs.truncate(limit as usize);
        let next = if has_more {
            jobs.last().map(|job| job.id)
        } else {
            None
        };
        Ok(JobPage { jobs, next })
    }

    /// Number of jobs in each state, including zeros.
    pub async fn counts(&self) -> Result<BTreeMap<JobState, u64>, Error> {
        let mut counts = BTreeMap::from(JobState::ALL.map(|state| (state, 0)));
        counts.extend(self.parts.store.count_jobs().await?);
        Ok(counts)
    }

    /// Bytes of all artifacts.
    pub async fn artifact_bytes(&self) -> Result<u64, Error> {
        Ok(self.parts.store.sum_artifact_bytes().await?)
    }

    /// The seconds that each phase of the job's last attempt took. Empty where that could not be found out.
    pub async fn phase_seconds(&self, job: &Job) -> BTreeMap<Phase, f64> {
        if job.attempt == 0 {
            return BTreeMap::new();
        }
        let log = self.parts.store.list_attempt_events(job.id, job.attempt);
        let log = log.await.unwrap_or_else(|error| {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, job.id = %job.id, "cannot read the log of a job");
            Vec::new()
        });
        phases::phase_seconds(&log, job.attempt, job.updated_at)
    }

    /// A part of a job's log.
    pub async fn events(&self, id: JobId, after: u64, limit: u32) -> Result<Vec<Event>, Error> {
        self.get(id).await?;
        Ok(self.parts.store.list_events(id, after, limit).await?)
    }

    /// The models on this machine.
    pub async fn models(&self) -> Result<Vec<FoundModel>, Error> {
        let parts = Arc::clone(&self.parts);
        let found = tokio::task::spawn_blocking(move || parts.models.list());
        found.await.map_err(|panic| Error::Unchecked(panic.into()))
    }

    /// The registered data sets that are available.
    pub async fn datasets(&self) -> Result<RegisteredData, Error> {
        let parts = Arc::clone(&self.parts);
        let found = tokio::task::spawn_blocking(move || RegisteredData {
            calibration: parts.datasets.available(Use::Calibration),
            evaluation: parts.datasets.available(Use::Evaluation),
            tasks: parts.datasets.tasks(),
        });
        found.await.map_err(|panic| Error::Unchecked(panic.into()))
    }

    /// What a submission may leave out.
    pub fn defaults(&self) -> Defaults {
        self.parts.defaults
    }
}
