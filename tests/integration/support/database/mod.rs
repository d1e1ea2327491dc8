//! A database for one test: a file, or a database on a throw-away PostgreSQL server.

pub(crate) mod postgres;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use secateur::store::DatabaseUrl;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, PgConnection};
use tempfile::TempDir;

use postgres::Cluster;

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
        Some(Self::on(Cluster::shared()?).await)
    }

    pub(crate) async fn on(cluster: &Cluster) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let mut connection = PgConnection::connect(&cluster.url("postgres"))
            .await
            .unwrap();
        let create = AssertSqlSafe(format!("create database {name}"));
        connection.execute(create).await.unwrap();
        connection.close().await.unwrap();
        let url = cluster.url(&name);
        Self::Postgres { name, url }
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

    fn file_options(&self) -> SqliteConnectOptions {
        SqliteConnectOptions::new().filename(self.file())
    }

    /// Past the store: one statement, the number of rows that it changed.
    pub(crate) async fn execute(&self, statement: &str) -> Result<u64, sqlx::Error> {
        let statement = AssertSqlSafe(statement.to_owned());
        match self {
            Self::Sqlite(_) => {
                let mut connection = self.file_options().connect().await?;
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

impl Database {
    /// What SQLite itself says of a file.
    pub(crate) async fn integrity(file: &Path) -> String {
        let options = SqliteConnectOptions::new().filename(file).read_only(true);
        let mut connection = options.connect().await.unwrap();
        let answer = sqlx::query_scalar("pragma integrity_check");
        answer.fetch_one(&mut connection).await.unwrap()
    }
}

/// What goes wrong with it.
impl Database {
    /// Nobody can write, on PostgreSQL not even read the jobs, for so long.
    pub(crate) async fn lock(&self, duration: Duration) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(_) => {
                let mut connection = self.file_options().connect().await?;
                let transaction = connection.begin_with("begin immediate").await?;
                tokio::time::sleep(duration).await;
                transaction.rollback().await?;
                connection.close().await
            }
            Self::Postgres { url, .. } => {
                let mut connection = PgConnection::connect(url).await?;
                let mut transaction = connection.begin().await?;
                transaction.execute("lock table jobs").await?;
                tokio::time::sleep(duration).await;
                transaction.rollback().await?;
                connection.close().await
            }
        }
    }

    /// From now on this operation on the table fails.
    pub(crate) async fn refuse(&self, operation: &str, table: &str) -> Result<(), sqlx::Error> {
        let trigger = format!("create trigger refused before {operation} on {table}");
        if let Self::Sqlite(_) = self {
            let statement = format!("{trigger} begin select raise(abort, 'refused'); end");
            return self.execute(&statement).await.map(drop);
        }
        let function = "create or replace function refuse() returns trigger language plpgsql as \
            $$ begin raise exception 'refused'; end $$";
        self.execute(function).await?;
        let statement = format!("{trigger} for each row execute function refuse()");
        self.execute(&statement).await.map(drop)
    }

    /// Takes back what [`Database::refuse`] did.
    pub(crate) async fn accept_again(&self, table: &str) -> Result<(), sqlx::Error> {
        let statement = match self {
            Self::Sqlite(_) => "drop trigger if exists refused".to_owned(),
            Self::Postgres { .. } => format!("drop trigger if exists refused on {table}"),
        };
        self.execute(&statement).await.map(drop)
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
                    super::$test(&$crate::support::database::Database::sqlite());
                }
            )*
        }

        mod on_postgres {
            use $crate::support::database::{Database, block_on};

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
                    let database = $crate::support::database::Database::sqlite();
                    super::$test(&$open(database).await).await;
                }
            )*
        }

        mod on_postgres {
            use super::*;

            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $test() {
                    if let Some(database) = $crate::support::database::Database::postgres().await {
                        super::$test(&$open(database).await).await;
                    }
                }
            )*
        }
    };
}
