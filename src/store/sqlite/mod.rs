//! The embedded database: one file, one machine.
//!
//! Each transaction that writes begins with `begin immediate`, so that it waits for a writer of another process at its
//! start and not in its middle, where SQLite could only refuse it.

mod connections;
#[macro_use]
mod dialect;
mod migration;
#[path = "../shared/mod.rs"]
mod shared;

use std::path::Path;

use sqlx::Sqlite as Driver;
use sqlx::sqlite::{SqliteConnection as Connection, SqlitePool as Pool, SqliteRow as Row};

use super::{StoreError, Time};
use SqliteStore as Database;
use connections::SqliteConnections as Connections;

/// A [`Store`](super::Store) in one SQLite file.
#[derive(Debug, Clone)]
pub(super) struct SqliteStore {
    connections: Connections,
    time: Time,
}

impl SqliteStore {
    /// Opens the file, creates it where it is missing, and brings its schema up to date.
    pub(super) async fn open(path: &Path, time: Time) -> Result<Self, StoreError> {
        let connections = Connections::open(path).await?;
        Ok(Self { connections, time })
    }
}
