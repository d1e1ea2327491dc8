//! The queue as a whole: what waits, and which workers could take it.

use super::StoreFuture;
use crate::domain::job::Job;
use crate::domain::queue::{ClusterState, QueueContent};

/// Reads the queue and pauses it.
pub trait QueueStore {
    /// Pauses the queue or resumes it. When this returns, no worker claims from a paused queue.
    fn set_paused(&self, paused: bool) -> StoreFuture<'_, ()>;

    /// Reads everything that decides which jobs may start.
    fn cluster_state(&self) -> StoreFuture<'_, ClusterState>;

    /// Reads the same and what waits, with the load of at most `submitters` submitters.
    fn queue_overview(&self, submitters: u32) -> StoreFuture<'_, (ClusterState, QueueContent)>;

    /// Counts the queued jobs of a higher priority than this one, and the older ones of the same.
    fn count_ahead<'a>(&'a self, job: &'a Job) -> StoreFuture<'a, u64>;
}
