//! The log of all jobs.

use super::StoreFuture;
use crate::domain::JobId;
use crate::domain::job::event::{Event, Numbered};

/// Reads the log; entries are written with the changes that they tell of.
pub trait EventStore {
    /// Lists a job's events after `after`, oldest first, at most `limit`.
    fn list_events(&self, id: JobId, after: u64, limit: u32) -> StoreFuture<'_, Vec<Event>>;

    /// Lists the events of one attempt, oldest first.
    fn list_attempt_events(&self, id: JobId, attempt: u32) -> StoreFuture<'_, Vec<Event>>;

    /// Lists the events of all jobs after the number `after`, oldest first, at most `limit`.
    fn list_all_events(&self, after: u64, limit: u32) -> StoreFuture<'_, Vec<Numbered>>;

    /// The number of the newest event; 0 where there is none.
    fn last_event_number(&self) -> StoreFuture<'_, u64>;
}
