//! The queue as a whole: what waits, and which workers could take it.

use super::StoreFuture;
use crate::domain::JobId;
use crate::domain::queue::places::{PastRun, Places};
use crate::domain::queue::{ClusterState, QueueContent};

/// Reads the queue and pauses it.
pub trait QueueStore {
    /// Pauses the queue or resumes it. When this returns, no worker claims from a paused queue.
    fn set_paused(&self, paused: bool) -> StoreFuture<'_, ()>;

    /// Reads everything that decides which jobs may start.
    fn cluster_state(&self) -> StoreFuture<'_, ClusterState>;

    /// Reads the same and what waits, with the load of at most `submitters` submitters.
    fn queue_overview(&self, submitters: u32) -> StoreFuture<'_, (ClusterState, QueueContent)>;

    /// The places of those of these jobs that are queued.
    fn places<'a>(&'a self, ids: &'a [JobId]) -> StoreFuture<'a, Places>;

    /// The last jobs that succeeded at their first attempt and whose work is known.
    fn recent_runs(&self) -> StoreFuture<'_, Vec<PastRun>>;
}
