//! Idempotency keys, and the replies to the requests that carried them.

use super::StoreFuture;
use crate::domain::JobId;
use crate::domain::idempotency::{KeyedRequest, Reply};
use crate::domain::job::Job;

/// What an earlier request with the same key means for this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Earlier {
    /// It was the same request: this was the reply.
    Same(Reply),
    /// It was another request.
    Other,
}

/// What became of a job that must be stored once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inserted {
    /// It is stored with this reply.
    New(Reply),
    /// It is not: the key was used before.
    Earlier(Earlier),
    /// It is not: this job does the same work, or has done it.
    Equal(JobId),
}

/// Makes the reply to a submission from the job as it was stored.
pub type Answer<'a> = dyn Fn(&Job) -> Reply + Send + Sync + 'a;

/// Stores a submission once per key.
pub trait KeyStore {
    /// Finds what was replied to an earlier request with this key.
    fn lookup_earlier<'a>(&'a self, request: &'a KeyedRequest) -> StoreFuture<'a, Option<Earlier>>;

    /// Adds a queued job and the reply to its submission, unless the key was used before. Requests with the same key wait
    /// for each other.
    fn insert_job_once<'a>(
        &'a self,
        job: &'a Job,
        request: &'a KeyedRequest,
        answer: &'a Answer<'a>,
    ) -> StoreFuture<'a, Inserted>;

    /// The same unless a job of the same fingerprint is not over or has succeeded: then nothing is stored. Submissions of one
    /// fingerprint wait for each other.
    fn insert_job_unless_equal<'a>(
        &'a self,
        job: &'a Job,
        request: Option<&'a KeyedRequest>,
        answer: &'a Answer<'a>,
    ) -> StoreFuture<'a, Inserted>;

    /// Finds the job that would be given instead of one of this fingerprint.
    fn lookup_equal<'a>(&'a self, fingerprint: &'a str) -> StoreFuture<'a, Option<JobId>>;

    /// Forgets expired keys; gives their number.
    fn forget_expired_keys(&self) -> StoreFuture<'_, u64>;
}
