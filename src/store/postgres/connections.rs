//! The connections to the server, and how long anybody waits for it.

use std::fmt;
use std::io;
use std::sync::LazyLock;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, Postgres, Transaction};

use super::listener;
use crate::store::{Change, PoolUse, StoreError, failed, schema, url};

/// How long a statement waits for a free connection, and a new connection for its server.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the readiness check waits for all of it.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// How long anything takes at most: a network that swallows what is sent would otherwise be waited for without end.
const DEADLINE: Duration = Duration::from_secs(10);

const MAX_CONNECTIONS: u32 = 10;

/// The server's side of the same limits: a worker that is stopped in the middle of a transaction keeps nobody from the
/// row that it has locked.
const LIMITS: &str = "\
set statement_timeout = '10s'; set lock_timeout = '5s'; set idle_in_transaction_session_timeout = '10s'";

static MIGRATOR: LazyLock<Migrator> =
    LazyLock::new(|| schema::migrator(schema::migrations!("postgres")));

/// One pool, for readers and writers alike.
#[derive(Clone)]
pub(super) struct PostgresConnections {
    pool: PgPool,
    options: PgConnectOptions,
}

/// Without the password.
impl fmt::Debug for PostgresConnections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgresConnections({})", url::place(&self.options))
    }
}

impl PostgresConnections {
    /// Brings the schema up to date under the driver's lock, on a connection that is closed afterwards, and the lock
    /// with it, however that ends.
    pub(super) async fn open(options: PgConnectOptions) -> Result<Self, StoreError> {
        let options = options.application_name("secateur");
        let open_error = |source| StoreError::Open {
            location: url::place(&options),
            source,
        };
        let connected = tokio::time::timeout(ACQUIRE_TIMEOUT, options.connect()).await;
        let connected = connected.map_err(|_| StoreError::TimedOut(ACQUIRE_TIMEOUT))?;
        let mut first = connected.map_err(open_error)?;
        MIGRATOR
            .run(&mut first)
            .await
            .map_err(|error| schema::not_migrated(&MIGRATOR, error))?;
        first.close().await.map_err(open_error)?;
        let pool = PgPoolOptions::new()
            .max_connections(MAX_CONNECTIONS)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .after_connect(|connection, _| Box::pin(limit(connection)))
            .connect_lazy_with(options.clone());
        Ok(Self { pool, options })
    }

    /// The migrations that this program knows.
    pub(super) fn migrator() -> &'static Migrator {
        &MIGRATOR
    }

    /// For statements that only read.
    pub(super) fn readers(&self) -> &PgPool {
        &self.pool
    }

    /// For statements that shall see one moment.
    pub(super) async fn snapshot(&self) -> Result<Transaction<'static, Postgres>, StoreError> {
        self.begin_with("begin isolation level repeatable read read only")
            .await
            .map_err(failed("begin to read"))
    }

    /// Begins to write.
    pub(super) async fn begin(&self) -> Result<Transaction<'static, Postgres>, StoreError> {
        self.begin_with("begin isolation level read committed read write")
            .await
            .map_err(failed("begin a transaction"))
    }

    /// Goes on to its end when nobody waits for it any more. Dropped half-way, the driver would not know that the
    /// transaction has begun, and whoever got the connection next would be in it: reads would show an old moment, and
    /// single writes would never be committed.
    async fn begin_with(
        &self,
        statement: &'static str,
    ) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
        let pool = self.pool.clone();
        let begun = tokio::spawn(async move { pool.begin_with(statement).await });
        let panicked = |panic| Err(sqlx::Error::Io(io::Error::other(panic)));
        begun.await.unwrap_or_else(panicked)
    }

    /// Gives up when the server does not answer.
    pub(super) fn bounded<'a, T: Send + 'a>(
        work: impl Future<Output = Result<T, StoreError>> + Send + 'a,
    ) -> BoxFuture<'a, Result<T, StoreError>> {
        Box::pin(within(DEADLINE, work))
    }

    /// Whether a job could be stored now.
    pub(super) async fn probe(&self) -> Result<(), StoreError> {
        let work = async {
            let mut transaction = self.begin().await?;
            let applied = sqlx::query_scalar(schema::APPLIED_VERSION)
                .fetch_one(&mut *transaction)
                .await
                .map_err(failed("read the schema version"))?;
            schema::check_version(&MIGRATOR, applied)?;
            transaction
                .rollback()
                .await
                .map_err(failed("end a transaction"))
        };
        within(PROBE_TIMEOUT, work).await
    }

    /// What the triggers of the schema tell.
    pub(super) fn changes(&self) -> BoxStream<'static, Change> {
        listener::changes(self.options.clone())
    }

    /// Without the one that listens.
    pub(super) fn pool_use(&self) -> PoolUse {
        let idle = u32::try_from(self.pool.num_idle()).unwrap_or(u32::MAX);
        PoolUse {
            idle,
            busy: self.pool.size().saturating_sub(idle),
        }
    }

    /// Waits for running statements and disconnects.
    pub(super) async fn close(&self) {
        self.pool.close().await;
    }
}

async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    match tokio::time::timeout(limit, work).await {
        Ok(done) => done,
        Err(_elapsed) => Err(StoreError::TimedOut(limit)),
    }
}

async fn limit(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    connection.execute(LIMITS).await.map(drop)
}
