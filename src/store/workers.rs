//! The table of workers.

use std::time::Duration;

use super::StoreFuture;
use crate::domain::worker::WorkerProfile;

/// Registers workers and drains them.
pub trait WorkerStore {
    /// Registers a worker, for the first time or again; it counts as lost unless it does so again within `lease`. Gives
    /// whether it is draining.
    fn announce_worker<'a>(
        &'a self,
        worker: &'a WorkerProfile,
        lease: Duration,
    ) -> StoreFuture<'a, bool>;

    /// Removes a worker that stopped.
    fn dismiss_worker<'a>(&'a self, id: &'a str) -> StoreFuture<'a, ()>;

    /// Marks a dead worker as lost from now on.
    fn lose_worker<'a>(&'a self, id: &'a str) -> StoreFuture<'a, ()>;

    /// Forgets workers that have been lost for longer than `age`.
    fn forget_workers(&self, age: Duration) -> StoreFuture<'_, ()>;

    /// Sets whether a worker is draining. When this returns, a draining one claims no job. Gives whether the worker
    /// exists.
    fn set_draining<'a>(&'a self, id: &'a str, draining: bool) -> StoreFuture<'a, bool>;
}
