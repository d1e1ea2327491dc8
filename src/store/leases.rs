//! Leases: how workers claim jobs, keep them, and end their attempts.

use std::time::Duration;

use jiff::Timestamp;

use super::StoreFuture;
use crate::domain::JobId;
use crate::domain::job::Job;
use crate::domain::job::attempt_end::{AttemptEnd, Settled};
use crate::domain::job::progress::{Overall, Phase, Step};
use crate::domain::job::retry::Budget;
use crate::domain::spec::PinnedCommit;
use crate::domain::worker::Device;

/// The proof that a worker holds a job. Every write of a worker carries it and fails once the lease is lost.
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
    /// The lease of a claimed job; `None` when no worker holds it.
    pub fn of(job: &Job) -> Option<Self> {
        Some(Self {
            job_id: job.id,
            attempt: job.attempt,
            owner: job.lease_owner.clone()?,
        })
    }
}

/// The worker that claims, and for how long.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The worker.
    pub worker_id: String,
    /// The device it will use.
    pub device: Device,
    /// Bytes that are free on its disk; `None` = unknown.
    pub free_disk_bytes: Option<u64>,
    /// How long the lease lasts unless it is renewed.
    pub lease: Duration,
}

/// A lease as other workers see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseInfo {
    /// The holder and its job.
    pub lease: Lease,
    /// When the lease ends unless it is renewed.
    pub expires_at: Timestamp,
    /// Whether that is past.
    pub is_over: bool,
    /// What the attempt does, where that is a known phase.
    pub phase: Option<Phase>,
    /// The attempts of the job that failed, and those that may.
    pub budget: Budget,
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

/// What a running attempt reports.
#[derive(Debug, Clone, PartialEq)]
pub enum Report {
    /// A phase began.
    Phase(Phase, Overall),
    /// The current phase moved on.
    Step(Step, Overall),
    /// The commits of the job's hub models are known.
    Pinned(Vec<PinnedCommit>),
    /// The last lines of the log of an attempt that fails.
    LogTail(String),
    /// The attempt goes on from a resume state.
    Resumed {
        /// The first block that is pruned again.
        block: usize,
        /// Number of blocks.
        blocks: usize,
    },
}

/// Claims, renews and ends leases.
pub trait LeaseStore {
    /// Claims the next job: by priority, by how few jobs of its submitter run, by age. Jobs of a newer spec
    /// version are passed over.
    fn claim_next_job<'a>(&'a self, claim: &'a Claim) -> StoreFuture<'a, Option<Job>>;

    /// Checks whether a lease is still valid; changes nothing.
    fn check_lease<'a>(&'a self, lease: &'a Lease) -> StoreFuture<'a, LeaseCheck>;

    /// Renews a lease: it lasts `duration` from now.
    fn heartbeat<'a>(&'a self, lease: &'a Lease, duration: Duration)
    -> StoreFuture<'a, LeaseCheck>;

    /// Records the progress of an attempt.
    fn report<'a>(&'a self, lease: &'a Lease, report: &'a Report) -> StoreFuture<'a, LeaseCheck>;

    /// Ends an attempt, and with it the lease. With `unless_renewed` (the expiry that was seen) a lease that was renewed
    /// since counts as lost: others than the holder end an attempt in this way. Gives what was written; `None` where the
    /// lease was lost and nothing was.
    fn finish<'a>(
        &'a self,
        lease: &'a Lease,
        end: &'a AttemptEnd,
        unless_renewed: Option<Timestamp>,
    ) -> StoreFuture<'a, Option<Settled>>;

    /// Lists every lease.
    fn list_leases(&self) -> StoreFuture<'_, Vec<LeaseInfo>>;
}
