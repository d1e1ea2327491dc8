//! The open file: one connection that writes, some that read, and the proof that they still mean the same file.

use std::fs::{self, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, StreamExt as _};
use sqlx::migrate::Migrator;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions as _, Connection as _, Sqlite, Transaction};

use super::migration;
use crate::store::{Change, PoolUse, StoreError, failed, schema};

/// How long a writer waits for one in another process.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the readiness check does.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a statement waits for a free connection. With [`BUSY_TIMEOUT`] well below a request's deadline.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

const READERS: u32 = 4;

/// The mode of the file.
const PRIVATE: u32 = 0o600;

static MIGRATOR: LazyLock<Migrator> =
    LazyLock::new(|| schema::migrator(schema::migrations!("sqlite")));

/// SQLite takes one writer at a time. Here they queue for the one connection that writes, so they never hold those
/// that the readers need.
#[derive(Debug, Clone)]
pub(super) struct SqliteConnections {
    writer: SqlitePool,
    readers: SqlitePool,
    path: PathBuf,
    identity: Identity,
}

/// Tells a file from another one that has its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(path)?;
        Ok(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        })
    }
}

impl SqliteConnections {
    /// Creates the file where it is missing and brings its schema up to date; later connections do neither.
    pub(super) async fn open(path: &Path) -> Result<Self, StoreError> {
        let open_error = |source| StoreError::Open {
            location: path.display().to_string(),
            source,
        };
        let lock = migration::lock(path).await;
        let lock = lock.map_err(|error| open_error(error.into()))?;
        make_private(path).map_err(|error| open_error(error.into()))?;
        let mut first = options(path)
            // A migration may have to make a table anew that others refer to.
            .foreign_keys(false)
            .journal_mode(SqliteJournalMode::Wal)
            .connect()
            .await
            .map_err(open_error)?;
        MIGRATOR
            .run(&mut first)
            .await
            .map_err(|error| schema::not_migrated(&MIGRATOR, error))?;
        drop(lock);
        let identity = Identity::of(path).map_err(|error| open_error(error.into()))?;
        let writer = pool(1).connect_with(options(path)).await;
        let writer = writer.map_err(open_error)?;
        let readers = pool(READERS).connect_with(options(path).read_only(true));
        let readers = readers.await.map_err(open_error)?;
        first.close().await.map_err(open_error)?;
        Ok(Self {
            writer,
            readers,
            path: path.to_path_buf(),
            identity,
        })
    }

    /// The migrations that this program knows.
    pub(super) fn migrator() -> &'static Migrator {
        &MIGRATOR
    }

    /// For statements that only read.
    pub(super) fn readers(&self) -> &SqlitePool {
        &self.readers
    }

    /// For statements that shall see one moment.
    pub(super) async fn snapshot(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        self.readers.begin().await.map_err(failed("begin to read"))
    }

    /// Every wait of SQLite has its own limit.
    pub(super) fn bounded<'a, T>(
        work: impl Future<Output = Result<T, StoreError>> + Send + 'a,
    ) -> BoxFuture<'a, Result<T, StoreError>> {
        Box::pin(work)
    }

    /// SQLite notifies of nothing.
    #[expect(clippy::unused_self, reason = "the other database tells here")]
    pub(super) fn changes(&self) -> BoxStream<'static, Change> {
        stream::empty().boxed()
    }

    /// Begins to write.
    pub(super) async fn begin(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        let transaction = self
            .writer
            .begin_with("begin immediate")
            .await
            .map_err(failed("begin a transaction"))?;
        self.check_file()?;
        Ok(transaction)
    }

    /// What is written into a file that has lost its name is gone with the process.
    fn check_file(&self) -> Result<(), StoreError> {
        let replaced = |source| StoreError::Replaced {
            location: self.path.display().to_string(),
            source,
        };
        match Identity::of(&self.path) {
            Ok(found) if found == self.identity => Ok(()),
            Ok(_) => Err(replaced(io::Error::other("it is another file now"))),
            Err(error) => Err(replaced(error)),
        }
    }

    /// Whether a job could be stored now. Through a connection of its own: it sees what the path leads to now, and
    /// waits less than a writer does.
    pub(super) async fn probe(&self) -> Result<(), StoreError> {
        self.check_file()?;
        let mut connection = options(&self.path)
            .busy_timeout(PROBE_TIMEOUT)
            .connect()
            .await
            .map_err(failed("connect"))?;
        let applied = sqlx::query_scalar(schema::APPLIED_VERSION)
            .fetch_one(&mut connection)
            .await
            .map_err(failed("read the schema version"))?;
        schema::check_version(&MIGRATOR, applied)?;
        let transaction = connection.begin_with("begin immediate").await;
        let transaction = transaction.map_err(failed("begin a transaction"))?;
        transaction
            .rollback()
            .await
            .map_err(failed("end a transaction"))?;
        connection.close().await.map_err(failed("disconnect"))
    }

    /// Of the writer and of the readers.
    pub(super) fn pool_use(&self) -> PoolUse {
        let pools = [&self.writer, &self.readers];
        let idle = pools.map(|pool| u32::try_from(pool.num_idle()).unwrap_or(u32::MAX));
        let idle = idle.iter().sum();
        let all: u32 = pools.map(SqlitePool::size).iter().sum();
        PoolUse {
            idle,
            busy: all.saturating_sub(idle),
        }
    }

    /// Waits for running statements and closes the file.
    pub(super) async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

/// Creates the file where it is missing. Only its owner may read it: it holds the secrets of webhooks.
fn make_private(path: &Path) -> io::Result<()> {
    // An existing file is never opened here: to close it again would drop the locks of SQLite in this process.
    let created = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(PRIVATE)
        .open(path);
    match created {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        created => return created.map(drop),
    }
    for suffix in ["", "-wal", "-shm"] {
        let mut file = path.as_os_str().to_owned();
        file.push(suffix);
        let is_open = fs::metadata(&file).is_ok_and(|file| file.mode() & 0o077 != 0);
        if is_open && let Err(error) = fs::set_permissions(&file, Permissions::from_mode(PRIVATE)) {
            tracing::warn!(%error, path = %Path::new(&file).display(), "other users can read the database");
        }
    }
    Ok(())
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        // An accepted job survives a power cut.
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
}

fn pool(connections: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        // A full disk makes SQLite end the transaction by itself, and the driver counts it as open ever after: such a
        // connection could never begin another one.
        .before_acquire(|connection, _| {
            let is_of_use = !connection.is_in_transaction();
            Box::pin(async move { Ok(is_of_use) })
        })
}
