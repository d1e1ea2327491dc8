//! The embedded database: one file, one machine.
//!
//! Each transaction that writes begins with `begin immediate`, so that it waits for a writer of another process at its
//! start and not in its middle, where SQLite could only refuse it.

mod connections;
mod reads;
mod row;
mod sql;
mod writes;

use std::collections::BTreeMap;
use std::path::Path;

use jiff::Timestamp;

use super::{
    Claim, Ending, Held, Lease, Leased, Report, Settled, Standing, Store, StoreError, StoreFuture,
};
use crate::domain::history::{Attempt, Event};
use crate::domain::job::{Job, JobFilter, JobId, Publication};
use crate::domain::state::JobState;
use connections::Connections;
use row::{Columns, to_json};

/// A [`Store`] in one SQLite file.
#[derive(Debug, Clone)]
pub struct SqliteStore {
    connections: Connections,
}

impl SqliteStore {
    /// Opens the file, creates it where it is missing, and brings its schema up to date.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let connections = Connections::open(path).await?;
        Ok(Self { connections })
    }

    /// Waits for running statements and closes the file.
    pub async fn close(&self) {
        self.connections.close().await;
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
        Box::pin(self.connections.probe())
    }

    fn insert_job<'a>(&'a self, job: &'a Job) -> StoreFuture<'a, ()> {
        Box::pin(async move {
            let mut transaction = self.connections.begin().await?;
            writes::insert_job(&mut transaction, job).await?;
            transaction.commit().await.map_err(failed("store a job"))
        })
    }

    fn list_standings<'a>(
        &'a self,
        ids: &'a [JobId],
    ) -> StoreFuture<'a, BTreeMap<JobId, Standing>> {
        Box::pin(async move {
            let rows = sqlx::query(sql::LIST_STANDINGS)
                .bind(to_json(&ids))
                .fetch_all(self.connections.readers())
                .await
                .map_err(failed("look up jobs"))?;
            rows.iter().map(row::standing).collect()
        })
    }

    fn lookup_job(&self, id: JobId) -> StoreFuture<'_, Option<Job>> {
        Box::pin(async move {
            let found = sqlx::query(sql::LOOKUP_JOB)
                .bind(id.to_string())
                .fetch_optional(self.connections.readers())
                .await
                .map_err(failed("look up a job"))?;
            found.as_ref().map(row::job).transpose()
        })
    }

    fn list_jobs<'a>(
        &'a self,
        filter: &'a JobFilter,
        before: Option<JobId>,
        limit: u32,
    ) -> StoreFuture<'a, Vec<Job>> {
        Box::pin(async move {
            reads::list_jobs(self.connections.readers(), filter, before, limit).await
        })
    }

    fn count_jobs(&self) -> StoreFuture<'_, BTreeMap<JobState, u64>> {
        Box::pin(async move {
            let rows = sqlx::query(sql::COUNT_JOBS)
                .fetch_all(self.connections.readers())
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
                .fetch_all(self.connections.readers())
                .await
                .map_err(failed("list events"))?;
            rows.iter().map(row::event).collect()
        })
    }

    fn lookup_job_with_attempts(&self, id: JobId) -> StoreFuture<'_, Option<(Job, Vec<Attempt>)>> {
        Box::pin(async move {
            let mut transaction = self
                .connections
                .readers()
                .begin()
                .await
                .map_err(failed("begin to read"))?;
            let found = reads::job_with_attempts(&mut transaction, id).await?;
            transaction.commit().await.map_err(failed("end a read"))?;
            Ok(found)
        })
    }

    fn lookup_publication(&self, id: JobId) -> StoreFuture<'_, Option<Publication>> {
        Box::pin(async move {
            let found = sqlx::query(sql::LOOKUP_PUBLICATION)
                .bind(id.to_string())
                .fetch_optional(self.connections.readers())
                .await;
            found
                .map_err(failed("look up a publication"))?
                .as_ref()
                .map(row::publication)
                .transpose()
        })
    }

    fn request_cancel(
        &self,
        id: JobId,
        now: Timestamp,
    ) -> StoreFuture<'_, Option<(Job, Vec<Attempt>)>> {
        Box::pin(async move {
            let mut transaction = self.connections.begin().await?;
            let job = writes::request_cancel(&mut transaction, id, now).await?;
            transaction.commit().await.map_err(failed("cancel a job"))?;
            Ok(job)
        })
    }

    fn claim_next_job<'a>(&'a self, claim: &'a Claim) -> StoreFuture<'a, Option<Job>> {
        Box::pin(async move {
            let mut transaction = self.connections.begin().await?;
            let job = writes::claim_next_job(&mut transaction, claim).await?;
            transaction.commit().await.map_err(failed("claim a job"))?;
            Ok(job)
        })
    }

    fn check_lease<'a>(&'a self, lease: &'a Lease) -> StoreFuture<'a, Held> {
        Box::pin(async move {
            let state = sqlx::query(sql::CHECK_LEASE)
                .bind(lease.job_id.to_string())
                .bind(lease.attempt)
                .bind(&lease.owner)
                .fetch_optional(self.connections.readers())
                .await
                .map_err(failed("look up a lease"))?;
            writes::held(state.as_ref())
        })
    }

    fn heartbeat<'a>(&'a self, lease: &'a Lease, expires_at: Timestamp) -> StoreFuture<'a, Held> {
        Box::pin(async move {
            let mut transaction = self.connections.begin().await?;
            let state = sqlx::query(sql::HEARTBEAT)
                .bind(lease.job_id.to_string())
                .bind(lease.attempt)
                .bind(&lease.owner)
                .bind(expires_at.as_millisecond())
                .fetch_optional(&mut *transaction)
                .await
                .map_err(failed("renew a lease"))?;
            transaction
                .commit()
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
            let mut transaction = self.connections.begin().await?;
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
    ) -> StoreFuture<'a, Option<Settled>> {
        Box::pin(async move {
            let mut transaction = self.connections.begin().await?;
            let settled =
                writes::finish(&mut transaction, lease, ending, unless_renewed, now).await?;
            transaction
                .commit()
                .await
                .map_err(failed("finish an attempt"))?;
            Ok(settled)
        })
    }

    fn list_leased(&self) -> StoreFuture<'_, Vec<Leased>> {
        Box::pin(async move {
            let rows = sqlx::query(sql::LIST_LEASED)
                .fetch_all(self.connections.readers())
                .await
                .map_err(failed("list leases"))?;
            Ok(reads::readable(&rows, row::leased))
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::JobReport;
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
        let report = JobReport::Prune(Box::new(serde_json::from_str(manifest).unwrap()));
        let publication = Publication {
            attempt: 1,
            report,
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
            let settled = store.finish(&lease, &ending, None, now).await.unwrap();
            assert_eq!(settled.map(|settled| settled.state), Some(state));
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
                let mut transaction = store.connections.begin().await.unwrap();
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
