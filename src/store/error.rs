//! Why the database did not do what was asked.

use std::time::Duration;

use crate::domain::JobId;

/// A failure of the database.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It cannot be opened.
    #[error("cannot open the database {location}")]
    Open {
        /// The database.
        location: String,
        /// The cause.
        #[source]
        source: sqlx::Error,
    },
    /// The file is gone, or another one has its name.
    #[error("the database {location} is not the file that was opened")]
    Replaced {
        /// The database.
        location: String,
        /// What is there instead.
        #[source]
        source: std::io::Error,
    },
    /// The settings do not name a database. Their value is not repeated: it may hold a password.
    #[error("the database URL cannot be read, {0}")]
    Url(&'static str),
    /// Its schema cannot be migrated.
    #[error("cannot bring the database schema up to date")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    /// Its schema is that of another version of this program.
    #[error("the database has schema version {found}, this program needs version {known}")]
    Schema {
        /// The version of the database.
        found: i64,
        /// The version of this program.
        known: i64,
    },
    /// It did not answer in time.
    #[error("the database did not answer within {} s", .0.as_secs())]
    TimedOut(Duration),
    /// A statement failed.
    #[error("cannot {operation}")]
    Statement {
        /// The purpose of the statement.
        operation: &'static str,
        /// The cause.
        #[source]
        source: sqlx::Error,
    },
    /// A job was deleted whose artifact the new job works on.
    #[error("there is no job {0} any more")]
    SourceGone(JobId),
    /// A stored value cannot be read.
    #[error("the column {column} of {row} cannot be read")]
    Inconsistent {
        /// The column.
        column: &'static str,
        /// The row's key.
        row: String,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl StoreError {
    /// Whether the same call may succeed later: the database is away, not wrong.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Open { .. }
            | Self::Replaced { .. }
            | Self::Migrate(_)
            | Self::Schema { .. }
            | Self::TimedOut(_)
            | Self::Statement { .. } => true,
            Self::Url(_) | Self::SourceGone(_) | Self::Inconsistent { .. } => false,
        }
    }
}

/// Names the operation of a failed statement.
pub(super) fn failed(operation: &'static str) -> impl FnOnce(sqlx::Error) -> StoreError {
    move |source| StoreError::Statement { operation, source }
}
