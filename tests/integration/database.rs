//! A database for one test: a file, or a database on a throw-away PostgreSQL server.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use secateur::store::DatabaseUrl;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, PgConnection};
use tempfile::TempDir;

use crate::postgres::Cluster;

/// Where it is. Gone with the value, or with the test binary.
pub(crate) enum Database {
    Sqlite(TempDir),
    Postgres { name: String, url: String },
}

impl Database {
    pub(crate) fn sqlite() -> Self {
        Self::Sqlite(tempfile::tempdir().unwrap())
    }

    /// `None`, and that was said, where there is no server to start.
    pub(crate) async fn postgres() -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let cluster = Cluster::shared()?;
        let name = format!("test_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let mut connection = PgConnection::connect(&cluster.url("postgres"))
            .await
            .unwrap();
        let create = AssertSqlSafe(format!("create database {name}"));
        connection.execute(create).await.unwrap();
        connection.close().await.unwrap();
        let url = cluster.url(&name);
        Some(Self::Postgres { name, url })
    }

    /// What an operator would write.
    pub(crate) fn url(&self) -> String {
        match self {
            Self::Sqlite(_) => format!("sqlite://{}", self.file().display()),
            Self::Postgres { url, .. } => url.clone(),
        }
    }

    pub(crate) fn as_url(&self) -> DatabaseUrl {
        self.url().into()
    }

    pub(crate) fn file(&self) -> PathBuf {
        match self {
            Self::Sqlite(directory) => directory.path().join("test.db"),
            Self::Postgres { name, .. } => panic!("{name} is no file"),
        }
    }

    /// Past the store: one statement, the number of rows that it changed.
    pub(crate) async fn execute(&self, statement: &str) -> Result<u64, sqlx::Error> {
        let statement = AssertSqlSafe(statement.to_owned());
        match self {
            Self::Sqlite(_) => {
                let options = SqliteConnectOptions::new().filename(self.file());
                let mut connection = options.connect().await?;
                let done = connection.execute(statement).await;
                connection.close().await?;
                Ok(done?.rows_affected())
            }
            Self::Postgres { url, .. } => {
                let mut connection = PgConnection::connect(url).await?;
                let done = connection.execute(statement).await;
                connection.close().await?;
                Ok(done?.rows_affected())
            }
        }
    }
}

/// For tests that start processes and wait for them.
pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Runtime::new().unwrap().block_on(work)
}

/// Each test on each database. A test takes what the function before the colon makes of the database, or the database
/// itself where it is `blocking`.
macro_rules! on_both_databases {
    (blocking: $($test:ident),* $(,)?) => {
        mod on_sqlite {
            $(
                #[test]
                fn $test() {
                    super::$test(&$crate::database::Database::sqlite());
                }
            )*
        }

        mod on_postgres {
            use $crate::database::{Database, block_on};

            $(
                #[test]
                fn $test() {
                    if let Some(database) = block_on(Database::postgres()) {
                        super::$test(&database);
                    }
                }
            )*
        }
    };
    ($open:path: $($test:ident),* $(,)?) => {
        mod on_sqlite {
            use super::*;

            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $test() {
                    let database = $crate::database::Database::sqlite();
                    super::$test(&$open(database).await).await;
                }
            )*
        }

        mod on_postgres {
            use super::*;

            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $test() {
                    if let Some(database) = $crate::database::Database::postgres().await {
                        super::$test(&$open(database).await).await;
                    }
                }
            )*
        }
    };
}
