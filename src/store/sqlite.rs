//! The embedded database: one file, one machine.
//!
//! Writers take turns: each transaction that writes begins with `begin immediate`, so that it waits at its start
//! (up to `BUSY_TIMEOUT`) and not in its middle, where SQLite could only refuse it.

mod row;
mod sql;
mod writes;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use sqlx::migrate::Migrator;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{Sqlite, Transaction};

use super::{Claim, Ending, Held, Lease, Report, Store, StoreError, StoreFuture};
use crate::domain::history::{Attempt, Event};
use crate::domain::job::{Job, JobFilter, JobId, Publication};
use crate::domain::state::JobState;
use row::{Columns, to_json};

/// How long a writer waits for the one before it.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// One writes, the others read.
const MAX_CONNECTIONS: u32 = 4;

static MIGRATOR: Migrator = sqlx::migrate!("migrations/sqlite");

/// A [`Store`] in one SQLite file.
#[derive(Debug, Clone)]
pub struct SqliteStore {
    pool: SqlitePool,
}

impl SqliteStore {
    /// Opens the file, creates it where it is missing, and brings its schema up to date.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // An accepted job survives a power cut.
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT);
        let pool = SqlitePoolOptions::new()
            .max_connections(MAX_CONNECTIONS)
            .connect_with(options)
            .await;
        let pool = pool.map_err(|source| StoreError::Open {
            location: path.display().to_string(),
            source,
        })?;
        MIGRATOR.run(&pool).await.map_err(StoreError::Migrate)?;
        Ok(Self { pool })
    }

    /// Waits for running statements and closes the file.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    async fn begin(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        self.pool
            .begin_with("begin immediate")
            .await
            .map_err(failed("begin a transaction"))
    }
}

/// Names the operation of a failed statement.
fn failed(operation: &'static str) -> impl FnOnce(sqlx::Error) -> StoreError {
    move |source| StoreError::Statement { operation, source }
}

/// SQLite knows signed integers only; no count of ours comes near the limit.
fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

impl Store for SqliteStore {
    fn ping(&self) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            let applied: Option<i64> = sqlx::query_scalar(sql::APPLIED_VERSION)
                .fetch_one(&self.pool)
                .await
                .map_err(failed("read the schema version"))?;
            let known = MIGRATOR.iter().map(|migration| migration.version).max();
            match applied {
                Some(version) if Some(version) != known => Err(StoreError::Migrate(
                    sqlx::migrate::MigrateError::VersionNotPresent(version),
                )),
                _ => Ok(()),
            }
        })
    }

    fn insert_job<'a>(&'a self, job: &'a Job) -> StoreFuture<'a, ()> {
        Box::pin(async move {
            let mut transaction = self.begin().await?;
            writes::insert_job(&mut transaction, job).await?;
            transaction.commit().await.map_err(failed("store a job"))
        })
    }

    fn lookup_job(&self, id: JobId) -> StoreFuture<'_, Option<Job>> {
        Box::pin(async move {
            let found = sqlx::query(sql::LOOKUP_JOB)
                .bind(id.to_string())
                .fetch_optional(&self.pool)
                .await;
            found
                .map_err(failed("look up a job"))?
                .as_ref()
                .map(row::job)
                .transpose()
        })
    }

    fn list_jobs<'a>(
        &'a self,
        filter: &'a JobFilter,
        before: Option<JobId>,
        limit: u32,
    ) -> StoreFuture<'a, Vec<Job>> {
        Box::pin(async move {
            let states = (!filter.states.is_empty()).then(|| to_json(&filter.states));
            let rows = sqlx::query(sql::LIST_JOBS)
                .bind(before.map(|id| id.to_string()))
                .bind(states)
                .bind(filter.model.as_deref())
                .bind(filter.method.as_deref())
                .bind(filter.created_after.map(Timestamp::as_millisecond))
                .bind(filter.created_before.map(Timestamp::as_millisecond))
                .bind(limit)
                .fetch_all(&self.pool)
                .await
                .map_err(failed("list jobs"))?;
            rows.iter().map(row::job).collect()
        })
    }

    fn count_jobs(&self) -> StoreFuture<'_, BTreeMap<JobState, u64>> {
        Box::pin(async move {
            let rows = sqlx::query(sql::COUNT_JOBS)
                .fetch_all(&self.pool)
                .await
                .map_err(failed("count jobs"))?;
            let counts = rows.iter().map(|row| {
                let columns = Columns::new(row, "jobs by state");
                Ok((columns.word("state")?, columns.count("jobs")?))
            });
            counts.collect()
        })
    }

    fn list_events(&self, id: JobId, after: u64, limit: u32) -> StoreFuture<'_, Vec<Event>> {
        Box::pin(async move {
            let query = sqlx::query(sql::LIST_EVENTS)
                .bind(id.to_string())
                .bind(signed(after))
                .bind(limit);
            let rows = query
                .fetch_all(&self.pool)
                .await
                .map_err(failed("list events"))?;
            rows.iter().map(row::event).collect()
        })
    }

    fn list_attempts(&self, id: JobId) -> StoreFuture<'_, Vec<Attempt>> {
        Box::pin(async move {
            let rows = sqlx::query(sql::LIST_ATTEMPTS)
                .bind(id.to_string())
                .fetch_all(&self.pool)
                .await;
            rows.map_err(failed("list attempts"))?
                .iter()
                .map(row::attempt)
                .collect()
        })
    }

    fn lookup_publication(&self, id: JobId) -> StoreFuture<'_, Option<Publication>> {
        Box::pin(async move {
            let found = sqlx::query(sql::LOOKUP_PUBLICATION)
                .bind(id.to_string())
                .fetch_optional(&self.pool)
                .await;
            found
                .map_err(failed("look up a publication"))?
                .as_ref()
                .map(row::publication)
                .transpose()
        })
    }

    fn request_cancel(&self, id: JobId, now: Timestamp) -> StoreFuture<'_, Option<Job>> {
        Box::pin(async move {
            let mut transaction = self.begin().await?;
            let job = writes::request_cancel(&mut transaction, id, now).await?;
            transaction.commit().await.map_err(failed("cancel a job"))?;
            Ok(job)
        })
    }

    fn claim_next_job<'a>(&'a self, claim: &'a Claim) -> StoreFuture<'a, Option<Job>> {
        Box::pin(async move {
            let mut transaction = self.begin().await?;
            let job = writes::claim_next_job(&mut transaction, claim).await?;
            transaction.commit().await.map_err(failed("claim a job"))?;
            Ok(job)
        })
    }

    fn heartbeat<'a>(&'a self, lease: &'a Lease, expires_at: Timestamp) -> StoreFuture<'a, Held> {
        Box::pin(async move {
            let state = sqlx::query(sql::HEARTBEAT)
                .bind(lease.job_id.to_string())
                .bind(lease.attempt)
                .bind(&lease.owner)
                .bind(expires_at.as_millisecond())
                .fetch_optional(&self.pool)
                .await
                .map_err(failed("renew a lease"))?;
            writes::held(state.as_ref())
        })
    }

    fn report<'a>(
        &'a self,
        lease: &'a Lease,
        report: &'a Report,
        now: Timestamp,
    ) -> StoreFuture<'a, Held> {
        Box::pin(async move {
            let mut transaction = self.begin().await?;
            let held = writes::report(&mut transaction, lease, report, now).await?;
            transaction
                .commit()
                .await
                .map_err(failed("store progress"))?;
            Ok(held)
        })
    }

    fn finish<'a>(
        &'a self,
        lease: &'a Lease,
        ending: &'a Ending,
        unless_renewed: Option<Timestamp>,
        now: Timestamp,
    ) -> StoreFuture<'a, bool> {
        Box::pin(async move {
            let mut transaction = self.begin().await?;
            let is_written =
                writes::finish(&mut transaction, lease, ending, unless_renewed, now).await?;
            transaction
                .commit()
                .await
                .map_err(failed("finish an attempt"))?;
            Ok(is_written)
        })
    }

    fn list_leased(&self) -> StoreFuture<'_, Vec<Job>> {
        Box::pin(async move {
            let rows = sqlx::query(sql::LIST_LEASED)
                .fetch_all(&self.pool)
                .await
                .map_err(failed("list leases"))?;
            rows.iter().map(row::job).collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::job::JobError;
    use crate::domain::request::{Defaults, JobRequest};

    /// A job in this state; every other job of the store is past being claimed.
    async fn job_in(state: JobState, store: &SqliteStore, now: Timestamp) -> JobId {
        let body = json!({"model": "demo", "sparsity": 0.5});
        let spec = JobRequest::parse(&body, Defaults::CPU).unwrap().spec;
        let job = Job::new(JobId::new(uuid::Uuid::now_v7()), spec, now);
        store.insert_job(&job).await.unwrap();
        if state == JobState::Queued {
            return job.id;
        }
        let claim = Claim {
            worker_id: "w".to_owned(),
            device: "cpu".to_owned(),
            now,
            expires_at: now,
        };
        let lease = Lease::of(&store.claim_next_job(&claim).await.unwrap().unwrap()).unwrap();
        let error = JobError::crash(1, None, "gone".to_owned());
        let manifest = include_str!("../../tests/integration/stub_manifest.json");
        let manifest = serde_json::from_str(manifest).unwrap();
        let publication = Publication {
            attempt: 1,
            manifest,
            files: Vec::new(),
        };
        let ending = match state {
            JobState::Queued | JobState::Running | JobState::Cancelling => None,
            JobState::Succeeded => Some(Ending::Succeeded(Box::new(publication))),
            JobState::Failed => Some(Ending::Failed {
                error,
                crashed: true,
            }),
            JobState::Cancelled => Some(Ending::Cancelled),
        };
        if matches!(state, JobState::Cancelling | JobState::Cancelled) {
            store.request_cancel(job.id, now).await.unwrap();
        }
        if let Some(ending) = ending {
            assert!(store.finish(&lease, &ending, None, now).await.unwrap());
        }
        job.id
    }

    #[tokio::test]
    async fn the_database_takes_exactly_the_transitions_of_the_state_machine() {
        const FORCE: &str = "update jobs set state = ?2, lease_owner = iif(?3, 'w', null), \
            lease_expires_at = iif(?3, 0, null) where id = ?1";
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&directory.path().join("test.db"))
            .await
            .unwrap();
        let mut states = JobState::ALL;
        // The queued one last: nobody may claim it.
        states.reverse();
        for from in states {
            let id = job_in(from, &store, Timestamp::UNIX_EPOCH).await;
            for to in JobState::ALL {
                let is_held = matches!(to, JobState::Running | JobState::Cancelling);
                let mut transaction = store.begin().await.unwrap();
                let query = sqlx::query(FORCE)
                    .bind(id.to_string())
                    .bind(to.as_str())
                    .bind(is_held);
                let is_taken = query.execute(&mut *transaction).await.is_ok();
                transaction.rollback().await.unwrap();
                assert_eq!(
                    is_taken,
                    from == to || from.may_become(to),
                    "{from:?} to {to:?}"
                );
            }
        }
    }
}
