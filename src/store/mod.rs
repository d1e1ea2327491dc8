//! The database; no other module says SQL.
//!
//! [`Store`] is all that jobs and workers may ask of it, a trait per table. Every change of a job's state, its event, and
//! the record of its attempt are one transaction. The time is the database's. The conformance suite in the integration
//! tests defines the traits: an implementation is right when it passes.

mod error;
mod events;
mod jobs;
mod keys;
mod leases;
mod postgres;
mod queue;
mod schema;
mod sqlite;
mod time;
mod url;
mod webhooks;
mod workers;

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::BoxStream;

use crate::domain::JobId;

pub use error::StoreError;
use error::failed;
pub use events::EventStore;
pub use jobs::{JobActions, JobStatus, JobStore, Requested};
pub use keys::{Answer, Earlier, Inserted, KeyStore};
pub use leases::{Claim, Lease, LeaseCheck, LeaseInfo, LeaseStore, Report};
use postgres::PostgresStore;
pub use queue::QueueStore;
use sqlite::SqliteStore;
pub use time::Time;
pub use url::DatabaseUrl;
pub use webhooks::{
    Asked, ChangedWebhook, DeliveryStore, Dispatch, Followup, NewWebhook, WebhookStore,
};
pub use workers::WorkerStore;

/// What a store method returns. Boxed, so that the traits can be used behind `dyn`.
pub type StoreFuture<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// A change that a database notifies of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// A job was queued.
    Queued,
    /// The worker of this job was asked for something.
    Asked(JobId),
    /// An event was logged.
    Logged,
    /// Notifications may have been missed.
    Missed,
}

/// How many connections to the database are in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolUse {
    /// Those that wait for work.
    pub idle: u32,
    /// Those that work.
    pub busy: u32,
}

/// The id that a database shares with its artifact store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreId {
    /// The id.
    pub id: String,
    /// Whether an artifact store was found to hold it.
    pub is_paired: bool,
}

/// The database.
pub trait Store:
    JobStore
    + JobActions
    + LeaseStore
    + EventStore
    + KeyStore
    + QueueStore
    + WorkerStore
    + WebhookStore
    + DeliveryStore
    + std::fmt::Debug
    + Send
    + Sync
{
    /// Checks that it answers, has the schema of this program, and can be written to.
    fn ping(&self) -> StoreFuture<'_, ()>;

    /// The changes from now on, whichever process makes them. Only a shortcut: an embedded database notifies of none,
    /// and those during a lost connection are missed.
    fn changes(&self) -> BoxStream<'static, Change>;

    /// How many connections are in use.
    fn pool_use(&self) -> PoolUse;

    /// Reads the id that is shared with the artifact store; the first call ever stores the proposed one.
    fn store_id<'a>(&'a self, proposed: &'a str) -> StoreFuture<'a, StoreId>;

    /// Pairs the database with the artifact store of this id, unless it is paired already.
    fn pair<'a>(&'a self, id: &'a str) -> StoreFuture<'a, ()>;

    /// Takes or keeps the task of exporting the gauges of the database; false where another process has it.
    fn take_gauges<'a>(&'a self, holder: &'a str, lease: Duration) -> StoreFuture<'a, bool>;

    /// Leaves that task to others.
    fn release_gauges<'a>(&'a self, holder: &'a str) -> StoreFuture<'a, ()>;

    /// Waits for running statements and disconnects.
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// Opens the database that the settings name, creates it where it is missing, and migrates its schema.
pub async fn open(url: &DatabaseUrl, time: Time) -> Result<Arc<dyn Store>, StoreError> {
    Ok(match url.locate()? {
        url::Location::Sqlite(path) => Arc::new(SqliteStore::open(&path, time).await?),
        url::Location::Postgres(options) => Arc::new(PostgresStore::open(*options, time).await?),
    })
}
