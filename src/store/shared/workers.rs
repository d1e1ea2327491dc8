//! Who is there to work, and what waits for them.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::row::{self, Columns, to_json};
use super::{Connection, Connections, Database, Writing, dialect, now, reads, signed, sql};
use crate::domain::JobId;
use crate::domain::job::Job;
use crate::domain::queue::{ClusterState, QueueContent};
use crate::domain::worker::WorkerProfile;
use crate::store::{PoolUse, StoreError, StoreFuture, WorkerStore, failed};

impl WorkerStore for Database {
    fn announce_worker<'a>(
        &'a self,
        worker: &'a WorkerProfile,
        lease: Duration,
    ) -> StoreFuture<'a, bool> {
        Connections::bounded(async move {
            let mut writing = Writing::begin(self).await?;
            let (transaction, now) = (&mut writing.transaction, writing.now);
            let draining = announce(transaction, worker, now, lease).await?;
            writing.commit("announce a worker").await?;
            Ok(draining)
        })
    }

    fn dismiss_worker<'a>(&'a self, id: &'a str) -> StoreFuture<'a, ()> {
        Connections::bounded(async move {
            let mut writing = Writing::begin(self).await?;
            sqlx::query(sql::DISMISS_WORKER)
                .bind(id)
                .execute(&mut *writing.transaction)
                .await
                .map_err(failed("dismiss a worker"))?;
            writing.commit("dismiss a worker").await
        })
    }

    fn lose_worker<'a>(&'a self, id: &'a str) -> StoreFuture<'a, ()> {
        Connections::bounded(async move {
            let mut writing = Writing::begin(self).await?;
            sqlx::query(sql::LOSE_WORKER)
                .bind(id)
                .bind(writing.now.as_millisecond())
                .execute(&mut *writing.transaction)
                .await
                .map_err(failed("mark a worker as lost"))?;
            writing.commit("mark a worker as lost").await
        })
    }

    fn forget_workers(&self, age: Duration) -> StoreFuture<'_, ()> {
        Connections::bounded(async move {
            let mut writing = Writing::begin(self).await?;
            sqlx::query(sql::FORGET_WORKERS)
                .bind((writing.now - age).as_millisecond())
                .execute(&mut *writing.transaction)
                .await
                .map_err(failed("forget lost workers"))?;
            writing.commit("forget lost workers").await
        })
    }

    fn set_draining<'a>(&'a self, id: &'a str, draining: bool) -> StoreFuture<'a, bool> {
        Connections::bounded(async move {
            let mut writing = Writing::begin(self).await?;
            let written = sqlx::query(sql::SET_DRAINING)
                .bind(id)
                .bind(draining)
                .execute(&mut *writing.transaction)
                .await
                .map_err(failed("drain a worker"))?;
            writing.commit("drain a worker").await?;
            Ok(written.rows_affected() > 0)
        })
    }

    fn set_paused(&self, paused: bool) -> StoreFuture<'_, ()> {
        Connections::bounded(async move {
            let mut writing = Writing::begin(self).await?;
            sqlx::query(sql::SET_PAUSED)
                .bind(paused)
                .bind(writing.now.as_millisecond())
                .execute(&mut *writing.transaction)
                .await
                .map_err(failed("pause the queue"))?;
            writing.commit("pause the queue").await
        })
    }

    fn cluster_state(&self) -> StoreFuture<'_, ClusterState> {
        Connections::bounded(async move {
            let mut reader = self.connections.snapshot().await?;
            let now = now(&self.time, &mut reader).await?;
            let found = cluster_state(&mut reader, now).await?;
            reader.commit().await.map_err(failed("end a read"))?;
            Ok(found)
        })
    }

    fn queue_overview(&self, submitters: u32) -> StoreFuture<'_, (ClusterState, QueueContent)> {
        Connections::bounded(async move {
            let mut reader = self.connections.snapshot().await?;
            let now = now(&self.time, &mut reader).await?;
            let found = cluster_state(&mut reader, now).await?;
            let content = content(&mut reader, submitters, now).await?;
            reader.commit().await.map_err(failed("end a read"))?;
            Ok((found, content))
        })
    }

    fn count_ahead<'a>(&'a self, job: &'a Job) -> StoreFuture<'a, u64> {
        Connections::bounded(async move {
            let row = sqlx::query(sql::COUNT_AHEAD)
                .bind(i64::from(job.scheduling.priority))
                .bind(job.id.to_string())
                .fetch_one(self.connections.readers())
                .await
                .map_err(failed("count the jobs ahead"))?;
            Columns::new(&row, "jobs ahead").count("jobs")
        })
    }

    fn pool_use(&self) -> PoolUse {
        self.connections.pool_use()
    }
}

/// Whether this worker may claim now: the queue is not paused, and the worker not draining. Both stay so until the
/// transaction ends, and nobody else claims before: whoever comes next sees what this one took.
pub(super) async fn may_claim(
    connection: &mut Connection,
    worker_id: &str,
) -> Result<bool, StoreError> {
    let queue = sqlx::query(dialect::HOLD_QUEUE)
        .fetch_one(&mut *connection)
        .await
        .map_err(failed("look up the queue"))?;
    if Columns::new(&queue, "queue").get("paused")? {
        return Ok(false);
    }
    let worker = sqlx::query(dialect::HOLD_WORKER)
        .bind(worker_id)
        .fetch_optional(connection)
        .await
        .map_err(failed("look up a worker"))?;
    // One that has not been announced yet, or was forgotten while it was away, has not been told to drain.
    let Some(worker) = worker else {
        return Ok(true);
    };
    let draining: bool = Columns::new(&worker, "workers").get("draining")?;
    Ok(!draining)
}

/// Gives whether the worker shall claim nothing more.
pub(super) async fn announce(
    connection: &mut Connection,
    worker: &WorkerProfile,
    now: Timestamp,
    lease: Duration,
) -> Result<bool, StoreError> {
    let row = sqlx::query(sql::ANNOUNCE_WORKER)
        .bind(&worker.id)
        .bind(&worker.host)
        .bind(&worker.version)
        .bind(to_json(&worker.devices))
        .bind(worker.memory_bytes.map(signed))
        .bind(now.as_millisecond())
        .bind((now + lease).as_millisecond())
        .fetch_one(connection)
        .await
        .map_err(failed("announce a worker"))?;
    Columns::new(&row, "workers").get("draining")
}

/// To be called within a transaction that sees one moment.
pub(super) async fn cluster_state(
    connection: &mut Connection,
    now: Timestamp,
) -> Result<ClusterState, StoreError> {
    let rows = sqlx::query(sql::LIST_WORKERS)
        .fetch_all(&mut *connection)
        .await
        .map_err(failed("list workers"))?;
    let held = held(connection).await?;
    let workers = reads::readable(&rows, |row| row::worker(row, now, &held));
    let queue = sqlx::query(sql::LOOKUP_QUEUE)
        .fetch_one(connection)
        .await
        .map_err(failed("look up the queue"))?;
    let queue = Columns::new(&queue, "queue");
    let changed_at = queue.time("changed_at")?;
    Ok(ClusterState {
        now,
        paused: queue.get("paused")?,
        changed_at: (changed_at > Timestamp::UNIX_EPOCH).then_some(changed_at),
        workers,
    })
}

/// The jobs that each worker holds.
async fn held(connection: &mut Connection) -> Result<BTreeMap<String, Vec<JobId>>, StoreError> {
    let rows = sqlx::query(sql::LIST_HELD)
        .fetch_all(connection)
        .await
        .map_err(failed("list held jobs"))?;
    let mut held: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for row in &rows {
        let (id, columns) = row::keyed(row)?;
        held.entry(columns.get("lease_owner")?)
            .or_default()
            .push(id);
    }
    Ok(held)
}

/// To be called within a transaction that sees one moment.
pub(super) async fn content(
    connection: &mut Connection,
    submitters: u32,
    now: Timestamp,
) -> Result<QueueContent, StoreError> {
    let groups = sqlx::query(sql::GROUP_QUEUED)
        .bind(now.as_millisecond())
        .fetch_all(&mut *connection)
        .await
        .map_err(failed("look over the queue"))?;
    let running = sqlx::query(sql::COUNT_HELD)
        .fetch_one(&mut *connection)
        .await
        .map_err(failed("count held jobs"))?;
    let loads = sqlx::query(sql::GROUP_SUBMITTERS)
        .bind(i64::from(submitters))
        .fetch_all(connection)
        .await
        .map_err(failed("look over the submitters"))?;
    Ok(QueueContent {
        running: Columns::new(&running, "held jobs").count("jobs")?,
        groups: groups.iter().map(row::group).collect::<Result<_, _>>()?,
        submitters: loads
            .iter()
            .map(row::submitter_load)
            .collect::<Result<_, _>>()?,
    })
}
