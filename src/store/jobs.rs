//! The table of jobs, as the rest of the program sees it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::StoreFuture;
use crate::domain::JobId;
use crate::domain::job::event::Attempt;
use crate::domain::job::state::{Action, JobState};
use crate::domain::job::{Job, JobFilter, Publication};

/// The state and attempt of a job: what tells whether its files are still needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobStatus {
    /// The state.
    pub state: JobState,
    /// Number of claims so far.
    pub attempt: u32,
}

/// What became of an action on a job.
#[derive(Debug, Clone, PartialEq)]
pub enum Requested {
    /// It is done, or its worker was asked to: the job and its attempts as they are now. A deleted job as it was.
    Done(Box<Job>, Vec<Attempt>),
    /// It was done before: the same.
    Unchanged(Box<Job>, Vec<Attempt>),
    /// The job's state does not allow it.
    NotAllowed(JobState),
    /// Its artifact is needed by this job.
    InUse(JobId),
    /// The job is of this version, not of the one that was named.
    Stale(u64),
}

/// Adds jobs and reads them.
pub trait JobStore {
    /// Adds a queued job, accepted now. Gives it as it was stored.
    fn insert_job<'a>(&'a self, job: &'a Job) -> StoreFuture<'a, Job>;

    /// Reads one job.
    fn lookup_job(&self, id: JobId) -> StoreFuture<'_, Option<Job>>;

    /// Reads one job and its newest attempts, oldest first, as they were at one moment.
    fn lookup_job_with_attempts(&self, id: JobId) -> StoreFuture<'_, Option<(Job, Vec<Attempt>)>>;

    /// Reads the result of a succeeded job.
    fn lookup_publication(&self, id: JobId) -> StoreFuture<'_, Option<Publication>>;

    /// Lists jobs, newest first, at most `limit`, only those older than `before`: a page that new jobs do not move.
    /// A damaged row is left out.
    fn list_jobs<'a>(
        &'a self,
        filter: &'a JobFilter,
        before: Option<JobId>,
        limit: u32,
    ) -> StoreFuture<'a, Vec<Job>>;

    /// The statuses of those of these jobs that exist.
    fn list_statuses<'a>(&'a self, ids: &'a [JobId])
    -> StoreFuture<'a, BTreeMap<JobId, JobStatus>>;

    /// Number of jobs in each state that occurs.
    fn count_jobs(&self) -> StoreFuture<'_, BTreeMap<JobState, u64>>;

    /// Bytes of all artifacts.
    fn sum_artifact_bytes(&self) -> StoreFuture<'_, u64>;

    /// Number of queued jobs, at most `most`.
    fn count_queued(&self, most: u32) -> StoreFuture<'_, u32>;
}

/// Changes to jobs that no worker makes.
pub trait JobActions {
    /// Does with a job what a client asks for, or asks its worker to. What is done already is not done again. With
    /// `if_version` only while the job is of that version.
    fn request(
        &self,
        id: JobId,
        action: Action,
        if_version: Option<u64>,
    ) -> StoreFuture<'_, Option<Requested>>;

    /// The same for a cancellation, with who asks for it and why.
    fn cancel<'a>(
        &'a self,
        id: JobId,
        if_version: Option<u64>,
        by: Option<&'a str>,
        reason: Option<&'a str>,
    ) -> StoreFuture<'a, Option<Requested>>;

    /// Keeps a job when its retention is over, or not any more. With `if_version` only while the job is of that version.
    fn set_kept(
        &self,
        id: JobId,
        kept: bool,
        if_version: Option<u64>,
    ) -> StoreFuture<'_, Option<Requested>>;

    /// The jobs that ended longer ago than `age`, are not kept and not in use, with their versions: the oldest first, a batch
    /// of them after the first `skip`.
    fn list_expired(&self, age: Duration, skip: u32) -> StoreFuture<'_, Vec<(JobId, u64)>>;

    /// Fails the oldest jobs past their deadline that no worker holds, a batch at a time. Gives those; none where no more
    /// are left.
    fn fail_overdue(&self) -> StoreFuture<'_, Vec<JobId>>;

    /// Which of these jobs were deleted.
    fn list_deleted<'a>(&'a self, ids: &'a [JobId]) -> StoreFuture<'a, BTreeSet<JobId>>;

    /// The jobs that were deleted within `age`.
    fn list_deleted_since(&self, age: Duration) -> StoreFuture<'_, Vec<JobId>>;

    /// Forgets which jobs were deleted longer ago than `age`.
    fn forget_deleted(&self, age: Duration) -> StoreFuture<'_, ()>;
}
