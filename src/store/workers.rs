//! What may be asked of the database about workers and the queue as a whole.

use std::time::Duration;

use super::StoreFuture;
use crate::domain::job::Job;
use crate::domain::queue::{ClusterState, QueueContent};
use crate::domain::worker::WorkerProfile;

/// How the connections to the database are used at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolUse {
    /// Those that wait for work.
    pub idle: u32,
    /// Those that work.
    pub busy: u32,
}

/// The part of a [`Store`](super::Store) that knows who works.
pub trait WorkerStore {
    /// A worker says that it lives, for the first time or again: it counts as lost unless it says so again within
    /// `lease`. Gives whether it shall claim nothing more.
    fn announce_worker<'a>(
        &'a self,
        worker: &'a WorkerProfile,
        lease: Duration,
    ) -> StoreFuture<'a, bool>;

    /// A worker stopped, and is forgotten.
    fn dismiss_worker<'a>(&'a self, id: &'a str) -> StoreFuture<'a, ()>;

    /// A worker is known to be dead: it counts as lost from now on.
    fn lose_worker<'a>(&'a self, id: &'a str) -> StoreFuture<'a, ()>;

    /// Forgets the workers that have been lost for longer than `age`.
    fn forget_workers(&self, age: Duration) -> StoreFuture<'_, ()>;

    /// Says whether a worker shall claim nothing more. When this returns, it claims nothing that it has not claimed.
    /// Gives whether there is such a worker.
    fn set_draining<'a>(&'a self, id: &'a str, draining: bool) -> StoreFuture<'a, bool>;

    /// Says whether nobody shall claim anything. When this returns, nobody does.
    fn set_paused(&self, paused: bool) -> StoreFuture<'_, ()>;

    /// Everything that decides who may start.
    fn cluster_state(&self) -> StoreFuture<'_, ClusterState>;

    /// The same, and what waits for it; at most so many submitters.
    fn queue_overview(&self, submitters: u32) -> StoreFuture<'_, (ClusterState, QueueContent)>;

    /// Number of queued jobs of a higher priority than this one, and of older ones of the same.
    fn count_ahead<'a>(&'a self, job: &'a Job) -> StoreFuture<'a, u64>;

    /// How its connections are used.
    fn pool_use(&self) -> PoolUse;
}
