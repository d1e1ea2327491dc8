//! What both databases have in common, which is nearly all: compiled once for each of them.
//!
//! A file per table holds its statements, what they bind, and how its rows are read. The parent module names the driver's
//! types (`Driver`, `Connection`, `Pool`, `Row`), its store (`Database`), and in `dialect` the few words that differ. A
//! change of a job is written under the lock of its row: SQLite has one writer at a time, PostgreSQL locks the row with
//! the first statement that names it. The statements of a worker carry the whole fence: job, attempt, owner, and a state
//! in which a worker holds the job.

mod actions;
mod attempts;
mod columns;
mod events;
mod exporter;
mod identity;
mod jobs;
mod keys;
mod leases;
mod queue;
mod webhooks;
mod workers;

use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use jiff::Timestamp;
use sqlx::Transaction;

use super::{Connection, Connections, Database, Driver, Pool, Row, dialect};
use crate::store::{
    Change, PoolUse, Store, StoreError, StoreFuture, StoreId, Time, failed, schema,
};
use columns::Columns;

/// A transaction that writes, and its time.
struct Writing {
    transaction: Transaction<'static, Driver>,
    now: Timestamp,
}

impl Writing {
    async fn begin(store: &Database) -> Result<Self, StoreError> {
        let mut transaction = store.connections.begin().await?;
        let now = now(&store.time, &mut transaction).await?;
        Ok(Self { transaction, now })
    }

    async fn commit(self, operation: &'static str) -> Result<(), StoreError> {
        self.transaction.commit().await.map_err(failed(operation))
    }
}

/// A transaction that reads one moment, and its time.
struct Reading {
    transaction: Transaction<'static, Driver>,
    now: Timestamp,
}

impl Reading {
    async fn begin(store: &Database) -> Result<Self, StoreError> {
        let mut transaction = store.connections.snapshot().await?;
        let now = now(&store.time, &mut transaction).await?;
        Ok(Self { transaction, now })
    }

    async fn end(self) -> Result<(), StoreError> {
        self.transaction
            .commit()
            .await
            .map_err(failed("end a read"))
    }
}

/// Fails where a newer version has brought the schema up to date since this one started.
async fn schema_is_known(connection: &mut Connection) -> Result<(), StoreError> {
    let row = sqlx::query(schema::APPLIED_VERSION)
        .fetch_one(connection)
        .await
        .map_err(failed("read the schema version"))?;
    let applied = Columns::new(&row, "the schema").get("version")?;
    schema::check_version(Connections::migrator(), applied)
}

async fn now(time: &Time, connection: &mut Connection) -> Result<Timestamp, StoreError> {
    match time {
        Time::Given(now) => Ok(now()),
        Time::Database => {
            let row = sqlx::query(dialect::NOW)
                .fetch_one(connection)
                .await
                .map_err(failed("ask the database for the time"))?;
            Columns::new(&row, "the clock").time("now")
        }
    }
}

impl Store for Database {
    fn ping(&self) -> StoreFuture<'_, ()> {
        Box::pin(self.connections.probe())
    }

    fn changes(&self) -> BoxStream<'static, Change> {
        self.connections.changes()
    }

    fn pool_use(&self) -> PoolUse {
        self.connections.pool_use()
    }

    fn store_id<'a>(&'a self, proposed: &'a str) -> StoreFuture<'a, StoreId> {
        Connections::bounded(identity::lookup(self, proposed))
    }

    fn pair<'a>(&'a self, id: &'a str) -> StoreFuture<'a, ()> {
        Connections::bounded(identity::pair(self, id))
    }

    fn take_gauges<'a>(&'a self, holder: &'a str, lease: Duration) -> StoreFuture<'a, bool> {
        Box::pin(exporter::take(self, holder, lease))
    }

    fn release_gauges<'a>(&'a self, holder: &'a str) -> StoreFuture<'a, ()> {
        Connections::bounded(exporter::release(self, holder))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.connections.close())
    }
}
