//! The database, and nobody else says SQL.
//!
//! [`Store`] is what jobs and workers may ask of it. Every change of a job's state, its event, and the record of its
//! attempt are one transaction. The time is the database's. The conformance suite in the integration tests is the
//! definition of the trait: an implementation is right when it passes.

#[macro_use]
mod columns;
mod ending;
mod outbox;
pub mod postgres;
mod schema;
pub mod sqlite;
mod time;
mod url;
mod workers;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use jiff::Timestamp;

use crate::domain::JobId;
use crate::domain::idempotency::{KeyedRequest, Reply};
use crate::domain::job::event::{Attempt, Event, Numbered};
use crate::domain::job::progress::{Phase, Step};
use crate::domain::job::state::{Action, JobState};
use crate::domain::job::{Job, JobFilter, Publication};
use crate::domain::worker::Device;

pub use ending::{Ending, Settled};
pub use outbox::{Asked, Dispatch, Followup, NewWebhook, Outbox};
pub use postgres::PostgresStore;
pub use sqlite::SqliteStore;
pub use time::Time;
pub use url::DatabaseUrl;
pub use workers::{PoolUse, WorkerStore};

/// What a store method gives. Boxed, so that the trait can be used behind `dyn`.
pub type StoreFuture<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// The database did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It could not be opened.
    #[error("cannot open the database {location}")]
    Open {
        /// Which one.
        location: String,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// The file is gone, or another one has its name.
    #[error("the database {location} is not the file that was opened")]
    Replaced {
        /// Which one.
        location: String,
        /// What is there instead.
        #[source]
        source: std::io::Error,
    },
    /// The settings do not name a database. What they say is not repeated: it may hold a password.
    #[error("the database URL cannot be read, {0}")]
    Url(&'static str),
    /// Its schema cannot be made the one this program knows.
    #[error("cannot bring the database schema up to date")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    /// Its schema is that of another version of this program.
    #[error("the database has schema version {found}, this program needs version {known}")]
    Schema {
        /// Of the database.
        found: i64,
        /// Of this program.
        known: i64,
    },
    /// It did not answer in time.
    #[error("the database did not answer within {} s", .0.as_secs())]
    TimedOut(Duration),
    /// A statement failed.
    #[error("cannot {operation}")]
    Statement {
        /// What it was for.
        operation: &'static str,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// A job whose artifact another one shall work on was deleted.
    #[error("there is no job {0} any more")]
    SourceGone(JobId),
    /// A stored value is not what was once written.
    #[error("the column {column} of {row} cannot be read")]
    Inconsistent {
        /// The column.
        column: &'static str,
        /// The row's key.
        row: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl StoreError {
    /// Whether the same call may work later: the database is away, as opposed to wrong.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Open { .. }
            | Self::Replaced { .. }
            | Self::Migrate(_)
            | Self::Schema { .. }
            | Self::TimedOut(_)
            | Self::Statement { .. } => true,
            Self::Url(_) | Self::SourceGone(_) | Self::Inconsistent { .. } => false,
        }
    }
}

/// The proof that a worker holds a job. Every write of a worker carries it; after the lease was lost they all fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The job.
    pub job_id: JobId,
    /// The claim's number, the fencing token.
    pub attempt: u32,
    /// The worker.
    pub owner: String,
}

impl Lease {
    /// The lease that a claimed job is under; `None` when nobody holds it.
    pub fn of(job: &Job) -> Option<Self> {
        Some(Self {
            job_id: job.id,
            attempt: job.attempt,
            owner: job.lease_owner.clone()?,
        })
    }
}

/// Names the operation of a failed statement.
fn failed(operation: &'static str) -> impl FnOnce(sqlx::Error) -> StoreError {
    move |source| StoreError::Statement { operation, source }
}

/// Who claims, and for how long.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The worker.
    pub worker_id: String,
    /// The device it will use.
    pub device: Device,
    /// How long the lease is unless it is renewed.
    pub lease: Duration,
}

/// A lease as other workers see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseInfo {
    /// Who holds which job.
    pub lease: Lease,
    /// When the lease ends unless it is renewed.
    pub expires_at: Timestamp,
    /// Whether that is past.
    pub is_over: bool,
    /// What the attempt does, where that is a known phase.
    pub phase: Option<Phase>,
    /// Whether one more failed attempt would be the job's last one.
    pub is_last_attempt: bool,
}

/// The state and attempt of a job: what tells whether its files are still needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobStatus {
    /// The state.
    pub state: JobState,
    /// Number of claims so far.
    pub attempt: u32,
}

/// What a worker learns when it renews or checks its lease, or reports progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseCheck {
    /// The lease is valid: go on.
    Valid,
    /// Valid, and the job must be cancelled: stop.
    CancelRequested,
    /// Valid, and the job must pause: stop when the resume state is next saved.
    PauseRequested,
    /// The lease is over: stop and discard.
    Lost,
}

/// What became of something that was asked of a job.
#[derive(Debug, Clone, PartialEq)]
pub enum Requested {
    /// It is done, or its worker was asked to: the job and its attempts as they are now. A deleted job as it was.
    Done(Box<Job>, Vec<Attempt>),
    /// It was so before: the same.
    Unchanged(Box<Job>, Vec<Attempt>),
    /// The job's state does not allow it.
    NotAllowed(JobState),
    /// Its artifact is needed by this job.
    InUse(JobId),
    /// The job is of this version, not of the one that was named.
    Stale(u64),
    /// It is done, or was so before, and the job cannot be read by this version of the program. Its state now; of a
    /// deleted job the last one.
    Unreadable(JobState),
}

/// What a database that can tells those who wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// There is a queued job.
    Queued,
    /// Something is asked of whoever works on the job.
    Asked(JobId),
    /// The log has grown.
    Logged,
    /// Something may have gone unnoticed.
    Missed,
}

/// What an earlier request under the same key means for this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Earlier {
    /// It was the same: this is what it was answered.
    Same(Reply),
    /// It asked for something else.
    Other,
}

/// What became of a job that was to be stored once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inserted {
    /// It is stored, and so is its answer.
    New(Reply),
    /// Nothing is: the key was used before.
    Earlier(Earlier),
}

/// Makes the answer to a submission from the job as it was stored.
pub type Answer<'a> = dyn Fn(&Job) -> Reply + Send + Sync + 'a;

/// What a running attempt reports.
#[derive(Debug, Clone, PartialEq)]
pub enum Report {
    /// A phase began.
    Phase(Phase),
    /// The current phase moved on.
    Step(Step),
    /// The attempt goes on from a checkpoint.
    Resumed {
        /// The first block that is pruned again.
        block: usize,
        /// Number of blocks.
        blocks: usize,
    },
}

/// The database.
pub trait Store: WorkerStore + Outbox + std::fmt::Debug + Send + Sync {
    /// Whether it answers, has the schema of this program, and can be written to.
    fn ping(&self) -> StoreFuture<'_, ()>;

    /// What happens from now on, whichever process does it. Only a shortcut: an embedded database tells nothing, and
    /// of what happens while a connection is lost nobody hears.
    fn changes(&self) -> BoxStream<'static, Change>;

    /// Waits for running statements and lets the database go.
    fn close(&self) -> BoxFuture<'_, ()>;

    /// Adds a queued job, accepted now. Gives it as it was stored.
    fn insert_job<'a>(&'a self, job: &'a Job) -> StoreFuture<'a, Job>;

    /// What was answered to an earlier request under the key of this one.
    fn lookup_earlier<'a>(&'a self, request: &'a KeyedRequest) -> StoreFuture<'a, Option<Earlier>>;

    /// Adds a queued job, and with it what the request for it is answered, unless its key was used before. Requests
    /// under one key wait for each other.
    fn insert_job_once<'a>(
        &'a self,
        job: &'a Job,
        request: &'a KeyedRequest,
        answer: &'a Answer<'a>,
    ) -> StoreFuture<'a, Inserted>;

    /// Forgets the keys whose time is over; gives their number.
    fn forget_expired_keys(&self) -> StoreFuture<'_, u64>;

    /// The statuses of those of these jobs that exist.
    fn list_statuses<'a>(&'a self, ids: &'a [JobId])
    -> StoreFuture<'a, BTreeMap<JobId, JobStatus>>;

    /// One job.
    fn lookup_job(&self, id: JobId) -> StoreFuture<'_, Option<Job>>;

    /// Newest first, at most `limit`, only those older than `before`: a page that new jobs do not move.
    /// A job that this version cannot read is left out.
    fn list_jobs<'a>(
        &'a self,
        filter: &'a JobFilter,
        before: Option<JobId>,
        limit: u32,
    ) -> StoreFuture<'a, Vec<Job>>;

    /// Number of jobs in each state that occurs.
    fn count_jobs(&self) -> StoreFuture<'_, BTreeMap<JobState, u64>>;

    /// Number of jobs that wait, or `most` if there are more.
    fn count_queued(&self, most: u32) -> StoreFuture<'_, u32>;

    /// The job's log after `after`, oldest first, at most `limit` entries.
    fn list_events(&self, id: JobId, after: u64, limit: u32) -> StoreFuture<'_, Vec<Event>>;

    /// One job and its attempts, oldest first, as they were at one moment.
    fn lookup_job_with_attempts(&self, id: JobId) -> StoreFuture<'_, Option<(Job, Vec<Attempt>)>>;

    /// What a succeeded job brought.
    fn lookup_publication(&self, id: JobId) -> StoreFuture<'_, Option<Publication>>;

    /// Does with a job what somebody asks for, or asks its worker to. What is done already is not done again, and it is
    /// done only while the job is of the version `if_version`, if that is given.
    fn request(
        &self,
        id: JobId,
        action: Action,
        if_version: Option<u64>,
    ) -> StoreFuture<'_, Option<Requested>>;

    /// Which of these jobs were deleted.
    fn list_deleted<'a>(&'a self, ids: &'a [JobId]) -> StoreFuture<'a, BTreeSet<JobId>>;

    /// Forgets which jobs were deleted longer ago than `age`.
    fn forget_deleted(&self, age: Duration) -> StoreFuture<'_, ()>;

    /// Ends the oldest jobs past their deadline that nobody works on, not all at once. Gives those; none where there are
    /// no more.
    fn fail_overdue(&self) -> StoreFuture<'_, Vec<JobId>>;

    /// What happened to all jobs after the event with the number `after`, oldest first, at most `limit` entries.
    fn list_all_events(&self, after: u64, limit: u32) -> StoreFuture<'_, Vec<Numbered>>;

    /// The number of the newest event; 0 where there was none.
    fn last_event_number(&self) -> StoreFuture<'_, u64>;

    /// Hands out the job whose turn it is: by priority, by how few jobs of its submitter run, by age. One that this version cannot read fails, and the next one is taken.
    fn claim_next_job<'a>(&'a self, claim: &'a Claim) -> StoreFuture<'a, Option<Job>>;

    /// Whether a lease still holds; changes nothing.
    fn check_lease<'a>(&'a self, lease: &'a Lease) -> StoreFuture<'a, LeaseCheck>;

    /// Renews a lease: it is this long from now on.
    fn heartbeat<'a>(&'a self, lease: &'a Lease, duration: Duration)
    -> StoreFuture<'a, LeaseCheck>;

    /// Writes down where an attempt is.
    fn report<'a>(&'a self, lease: &'a Lease, report: &'a Report) -> StoreFuture<'a, LeaseCheck>;

    /// Ends an attempt, and with it the lease. With `unless_renewed` (the expiry that was seen) a lease that was
    /// renewed since counts as lost: that is how others than the holder end an attempt. Gives what was written; `None` =
    /// lost, and nothing was.
    fn finish<'a>(
        &'a self,
        lease: &'a Lease,
        ending: &'a Ending,
        unless_renewed: Option<Timestamp>,
    ) -> StoreFuture<'a, Option<Settled>>;

    /// Every lease.
    fn list_leases(&self) -> StoreFuture<'_, Vec<LeaseInfo>>;
}

/// Opens the database that the settings name, creates what is missing of it, and brings its schema up to date.
pub async fn open(url: &DatabaseUrl, time: Time) -> Result<Arc<dyn Store>, StoreError> {
    Ok(match url.locate()? {
        url::Location::Sqlite(path) => Arc::new(SqliteStore::open(&path, time).await?),
        url::Location::Postgres(options) => Arc::new(PostgresStore::open(*options, time).await?),
    })
}
