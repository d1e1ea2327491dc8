//! The database on a server, for several workers.
//!
//! A transaction that changes a job locks the row first, with the statement that changes it or with `for update`, so
//! all that is written about one job is written in one order. Who claims locks the row of the queue first, so claims
//! come one after the other.

mod connections;
#[macro_use]
mod dialect;
mod listener;
#[expect(
    clippy::duplicate_mod,
    reason = "compiled once more, with the types of this driver"
)]
#[path = "../shared/mod.rs"]
mod shared;

use sqlx::Postgres as Driver;
use sqlx::postgres::{PgConnectOptions, PgConnection as Connection, PgPool as Pool, PgRow as Row};

use super::{StoreError, Time};
use PostgresStore as Database;
use connections::PostgresConnections as Connections;

/// A [`Store`](super::Store) in one PostgreSQL database.
#[derive(Debug, Clone)]
pub(super) struct PostgresStore {
    connections: Connections,
    time: Time,
}

impl PostgresStore {
    /// Connects, and brings the schema of the database up to date. The database itself must exist.
    pub(super) async fn open(options: PgConnectOptions, time: Time) -> Result<Self, StoreError> {
        let connections = Connections::open(options).await?;
        Ok(Self { connections, time })
    }
}
