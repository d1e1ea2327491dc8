//! What the databases have in common, which is nearly all: compiled once for each of them.
//!
//! The parent module names the driver's types (`Driver`, `Connection`, `Pool`, `Row`), its store (`Database`), and in
//! `dialect` the few statements that differ. What is written about a job is written under the lock of its row: SQLite
//! has one writer at a time, PostgreSQL locks the row with the first statement that names it.

mod delivery;
mod keys;
mod outbox;
mod reads;
mod requests;
mod row;
mod sql;
mod workers;
mod writes;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use jiff::Timestamp;
use sqlx::Transaction;

use super::{Connection, Connections, Database, Driver, Pool, Row, dialect};
use crate::domain::JobId;
use crate::domain::idempotency::KeyedRequest;
use crate::domain::job::event::{Attempt, Event, Numbered};
use crate::domain::job::state::{Action, JobState};
use crate::domain::job::{Job, JobFilter, Publication};
use crate::store::{
    Answer, Change, Claim, Earlier, Ending, Inserted, JobStatus, Lease, LeaseCheck, LeaseInfo,
    Report, Requested, Settled, Store, StoreError, StoreFuture, Time, failed,
};
use row::{Columns, to_json};
use writes::Taken;

/// A transaction that writes, and the time in it.
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

impl Database {
    /// Whether a job waits for such a worker; asked without a lock.
    async fn has_work(&self, claim: &Claim) -> Result<bool, StoreError> {
        let mut reader = self.connections.snapshot().await?;
        let now = now(&self.time, &mut reader).await?;
        let found = writes::pick(&mut reader, claim, now).await?;
        reader.commit().await.map_err(failed("end a read"))?;
        Ok(found.is_some())
    }
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

/// The databases know signed integers only; no count of ours comes near the limit.
fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// The same for a length of time.
fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl Store for Database {
    fn ping(&self) -> StoreFuture<'_, ()> {
        Box::pin(self.connections.probe())
    }

    fn changes(&self) -> BoxStream<'static, Change> {
        self.connections.changes()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.connections.close())
    }

    fn insert_job<'a>(&'a self, job: &'a Job) -> StoreFuture<'a, Job> {
        Connections::bounded(async move {
            let mut writing = Writing::begin(self).await?;
            let job = job.clone().accepted_at(writing.now);
            writes::insert_job(&mut writing.transaction, &job).await?;
            writing.commit("store a job").await?;
            Ok(job)
        })
    }

    fn lookup_earlier<'a>(&'a self, request: &'a KeyedRequest) -> StoreFuture<'a, Option<Earlier>> {
        Connections::bounded(async move {
            let mut transaction = self.connections.snapshot().await?;
            let now = now(&self.time, &mut transaction).await?;
            let earlier = keys::lookup_earlier(&mut transaction, request, now).await?;
            transaction.commit().await.map_err(failed("end a read"))?;
            Ok(earlier)
        })
    }

    fn insert_job_once<'a>(
        &'a self,
        job: &'a Job,
        request: &'a KeyedRequest,
        answer: &'a Answer<'a>,
    ) -> StoreFuture<'a, Inserted> {
        Connections::bounded(async move {
            let mut writing = Writing::begin(self).await?;
            let job = job.clone().accepted_at(writing.now);
            let reply = answer(&job);
            let (transaction, now) = (&mut writing.transaction, writing.now);
            let earlier = keys::take(transaction, request, &reply, now).await?;
            let inserted = if let Some(earlier) = earlier {
                Inserted::Earlier(earlier)
            } else {
                writes::insert_job(transaction, &job).await?;
                Inserted::New(reply)
            };
            writing.commit("store a job").await?;
            Ok(inserted)
        })
    }

    fn forget_expired_keys(&self) -> StoreFuture<'_, u64> {
        Connections::bounded(async move {
            let mut writing = Writing::begin(self).await?;
            let forgotten = keys::forget_expired(&mut writing.transaction, writing.now).await?;
            writing.commit("forget keys").await?;
            Ok(forgotten)
        })
    }

    fn list_statuses<'a>(
        &'a self,
        ids: &'a [JobId],
    ) -> StoreFuture<'a, BTreeMap<JobId, JobStatus>> {
        Connections::bounded(async move {
            let rows = sqlx::query(dialect::LIST_STATUSES)
                .bind(to_json(&ids))
                .fetch_all(self.connections.readers())
                .await
                .map_err(failed("look up jobs"))?;
            rows.iter().map(row::status).collect()
        })
    }

    fn lookup_job(&self, id: JobId) -> StoreFuture<'_, Option<Job>> {
        Connections::bounded(async move {
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
        Connections::bounded(async move {
            reads::list_jobs(self.connections.readers(), filter, before, limit).await
        })
    }

    fn count_jobs(&self) -> StoreFuture<'_, BTreeMap<JobState, u64>> {
        Connections::bounded(async move {
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

    fn count_queued(&self, most: u32) -> StoreFuture<'_, u32> {
        Connections::bounded(async move {
            let row = sqlx::query(sql::COUNT_QUEUED)
                .bind(i64::from(most))
                .fetch_one(self.connections.readers())
                .await
                .map_err(failed("count queued jobs"))?;
            Columns::new(&row, "queued jobs").count("jobs")
        })
    }

    fn list_events(&self, id: JobId, after: u64, limit: u32) -> StoreFuture<'_, Vec<Event>> {
        Connections::bounded(async move {
            let query = sqlx::query(sql::LIST_EVENTS)
                .bind(id.to_string())
                .bind(signed(after))
                .bind(i64::from(limit));
            let rows = query
                .fetch_all(self.connections.readers())
                .await
                .map_err(failed("list events"))?;
            Ok(reads::readable(&rows, row::event))
        })
    }

    fn lookup_job_with_attempts(&self, id: JobId) -> StoreFuture<'_, Option<(Job, Vec<Attempt>)>> {
        Connections::bounded(async move {
            let mut transaction = self.connections.snapshot().await?;
            let found = reads::job_with_attempts(&mut transaction, id).await?;
            transaction.commit().await.map_err(failed("end a read"))?;
            Ok(found)
        })
    }

    fn lookup_publication(&self, id: JobId) -> StoreFuture<'_, Option<Publication>> {
        Connections::bounded(async move {
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

    fn request(
        &self,
        id: JobId,
        action: Action,
        if_version: Option<u64>,
    ) -> StoreFuture<'_, Option<Requested>> {
        Connections::bounded(async move {
            let mut writing = Writing::begin(self).await?;
            let (transaction, now) = (&mut writing.transaction, writing.now);
            let done = requests::request(transaction, id, action, if_version, now).await?;
            writing.commit("change a job").await?;
            Ok(done)
        })
    }

    fn list_deleted<'a>(&'a self, ids: &'a [JobId]) -> StoreFuture<'a, BTreeSet<JobId>> {
        Connections::bounded(async move {
            let rows = sqlx::query(dialect::LIST_DELETED)
                .bind(to_json(&ids))
                .fetch_all(self.connections.readers())
                .await
                .map_err(failed("look up deleted jobs"))?;
            let ids = rows.iter();
            ids.map(|row| Columns::new(row, "deleted_jobs").word("id"))
                .collect()
        })
    }

    fn forget_deleted(&self, age: Duration) -> StoreFuture<'_, ()> {
        Connections::bounded(async move {
            let mut writing = Writing::begin(self).await?;
            sqlx::query(sql::FORGET_DELETED)
                .bind(writing.now.as_millisecond() - milliseconds(age))
                .execute(&mut *writing.transaction)
                .await
                .map_err(failed("forget deleted jobs"))?;
            writing.commit("forget deleted jobs").await
        })
    }

    fn fail_overdue(&self) -> StoreFuture<'_, Vec<JobId>> {
        Connections::bounded(async move {
            let mut reader = self.connections.snapshot().await?;
            let now = now(&self.time, &mut reader).await?;
            let overdue = requests::overdue(&mut reader, now).await?;
            reader.commit().await.map_err(failed("end a read"))?;
            let mut ended = Vec::new();
            for id in overdue {
                let mut writing = Writing::begin(self).await?;
                let (transaction, now) = (&mut writing.transaction, writing.now);
                match requests::fail_overdue(transaction, id, now).await {
                    Ok(true) => ended.push(id),
                    Ok(false) => {}
                    // It must not keep the others.
                    Err(error @ StoreError::Inconsistent { .. }) => {
                        let error = &error as &dyn std::error::Error;
                        tracing::error!(error, job.id = %id, "a job past its deadline cannot be read");
                        continue;
                    }
                    Err(error) => return Err(error),
                }
                writing.commit("end a job past its deadline").await?;
            }
            Ok(ended)
        })
    }

    fn list_all_events(&self, after: u64, limit: u32) -> StoreFuture<'_, Vec<Numbered>> {
        Connections::bounded(async move {
            let rows = sqlx::query(sql::LIST_ALL_EVENTS)
                .bind(signed(after))
                .bind(i64::from(limit))
                .fetch_all(self.connections.readers())
                .await
                .map_err(failed("list events"))?;
            rows.iter().map(row::numbered).collect()
        })
    }

    fn last_event_number(&self) -> StoreFuture<'_, u64> {
        Connections::bounded(async move {
            let row = sqlx::query(sql::LAST_EVENT_NUMBER)
                .fetch_one(self.connections.readers())
                .await
                .map_err(failed("look up the newest event"))?;
            Columns::new(&row, "event_numbers").count("last")
        })
    }

    fn claim_next_job<'a>(&'a self, claim: &'a Claim) -> StoreFuture<'a, Option<Job>> {
        Connections::bounded(async move {
            // Workers with nothing to do ask all the time, and shall not keep others from writing.
            while self.has_work(claim).await? {
                let mut writing = Writing::begin(self).await?;
                let (transaction, now) = (&mut writing.transaction, writing.now);
                let taken = writes::claim_next_job(transaction, claim, now).await?;
                writing.commit("claim a job").await?;
                match taken {
                    Taken::Job(job) => return Ok(Some(*job)),
                    Taken::Unreadable => {}
                    Taken::Nothing => break,
                }
            }
            Ok(None)
        })
    }

    fn check_lease<'a>(&'a self, lease: &'a Lease) -> StoreFuture<'a, LeaseCheck> {
        Connections::bounded(async move {
            let state = sqlx::query(sql::CHECK_LEASE)
                .bind(lease.job_id.to_string())
                .bind(i64::from(lease.attempt))
                .bind(&lease.owner)
                .fetch_optional(self.connections.readers())
                .await
                .map_err(failed("look up a lease"))?;
            writes::held(state.as_ref())
        })
    }

    fn heartbeat<'a>(
        &'a self,
        lease: &'a Lease,
        duration: Duration,
    ) -> StoreFuture<'a, LeaseCheck> {
        Connections::bounded(async move {
            let mut writing = Writing::begin(self).await?;
            let expires_at = writing.now + duration;
            let held = writes::heartbeat(&mut writing.transaction, lease, expires_at).await?;
            writing.commit("renew a lease").await?;
            Ok(held)
        })
    }

    fn report<'a>(&'a self, lease: &'a Lease, report: &'a Report) -> StoreFuture<'a, LeaseCheck> {
        Connections::bounded(async move {
            let mut writing = Writing::begin(self).await?;
            let held = writes::report(&mut writing.transaction, lease, report, writing.now).await?;
            writing.commit("store progress").await?;
            Ok(held)
        })
    }

    fn finish<'a>(
        &'a self,
        lease: &'a Lease,
        ending: &'a Ending,
        unless_renewed: Option<Timestamp>,
    ) -> StoreFuture<'a, Option<Settled>> {
        Connections::bounded(async move {
            let mut writing = Writing::begin(self).await?;
            let (transaction, now) = (&mut writing.transaction, writing.now);
            let settled = writes::finish(transaction, lease, ending, unless_renewed, now).await?;
            writing.commit("finish an attempt").await?;
            Ok(settled)
        })
    }

    fn list_leases(&self) -> StoreFuture<'_, Vec<LeaseInfo>> {
        Connections::bounded(async move {
            let mut transaction = self.connections.snapshot().await?;
            let now = now(&self.time, &mut transaction).await?;
            let rows = sqlx::query(sql::LIST_LEASES)
                .fetch_all(&mut *transaction)
                .await
                .map_err(failed("list leases"))?;
            transaction.commit().await.map_err(failed("end a read"))?;
            Ok(reads::readable(&rows, |row| row::leased(row, now)))
        })
    }
}
