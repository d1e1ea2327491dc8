//! The table `workers`.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::columns::{Columns, keyed, readable, signed, to_json};
use super::{Connection, Connections, Database, Row, Writing};
use crate::domain::JobId;
use crate::domain::worker::{Worker, WorkerProfile};
use crate::store::{StoreError, StoreFuture, WorkerStore, failed};

const REGISTER: &str = "\
insert into workers (id, host, version, devices, memory_bytes, draining, started_at, seen_at, lost_at, free_disk_bytes, \
spec_version, used_bytes) \
values ($1, $2, $3, $4, $5, false, $6, $6, $7, $8, $9, $10) \
on conflict (id) do update set host = excluded.host, version = excluded.version, devices = excluded.devices, \
memory_bytes = excluded.memory_bytes, seen_at = excluded.seen_at, lost_at = excluded.lost_at, \
free_disk_bytes = excluded.free_disk_bytes, used_bytes = excluded.used_bytes \
returning draining";

const LIST: &str = "\
select id, host, version, devices, memory_bytes, draining, started_at, seen_at, lost_at, free_disk_bytes, spec_version, \
used_bytes from workers order by id";

const LIST_HELD: &str = "\
select id, lease_owner from jobs where state in ('running', 'pausing', 'cancelling') order by id";

/// Locks the row until the transaction ends, against changes only.
const LOCK: &str = concat!("select draining from workers where id = $1", for_share!());

const SET_DRAINING: &str = "update workers set draining = $2 where id = $1";

const LOSE: &str = "update workers set lost_at = $2 where id = $1 and lost_at > $2";

const DISMISS: &str = "delete from workers where id = $1";

const FORGET: &str = "delete from workers where lost_at < $1";

impl WorkerStore for Database {
    fn announce_worker<'a>(
        &'a self,
        worker: &'a WorkerProfile,
        lease: Duration,
    ) -> StoreFuture<'a, bool> {
        Connections::bounded(async move {
            let mut writing = Writing::begin(self).await?;
            let now = writing.now;
            let row = sqlx::query(REGISTER)
                .bind(&worker.id)
                .bind(&worker.host)
                .bind(&worker.version)
                .bind(to_json(&worker.devices))
                .bind(worker.memory_bytes.map(signed))
                .bind(now.as_millisecond())
                .bind((now + lease).as_millisecond())
                .bind(worker.free_disk_bytes.map(signed))
                .bind(i64::from(worker.spec_version))
                .bind(worker.used_bytes.as_ref().map(to_json))
                .fetch_one(&mut *writing.transaction)
                .await
                .map_err(failed("announce a worker"))?;
            let draining = Columns::new(&row, "workers").get("draining")?;
            writing.commit("announce a worker").await?;
            Ok(draining)
        })
    }

    fn dismiss_worker<'a>(&'a self, id: &'a str) -> StoreFuture<'a, ()> {
        Connections::bounded(async move {
            let mut writing = Writing::begin(self).await?;
            sqlx::query(DISMISS)
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
            sqlx::query(LOSE)
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
            sqlx::query(FORGET)
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
            let written = sqlx::query(SET_DRAINING)
                .bind(id)
                .bind(draining)
                .execute(&mut *writing.transaction)
                .await
                .map_err(failed("drain a worker"))?;
            writing.commit("drain a worker").await?;
            Ok(written.rows_affected() > 0)
        })
    }
}

/// Whether a worker is draining. It stays so until the transaction ends.
pub(super) async fn is_draining(
    connection: &mut Connection,
    worker_id: &str,
) -> Result<bool, StoreError> {
    let worker = sqlx::query(LOCK)
        .bind(worker_id)
        .fetch_optional(connection)
        .await
        .map_err(failed("look up a worker"))?;
    // One that is not registered yet, or was forgotten while it was away, was not told to drain.
    let draining = worker.map(|worker| Columns::new(&worker, "workers").get("draining"));
    Ok(draining.transpose()?.unwrap_or_default())
}

/// Lists every worker and the jobs that it holds, within a transaction that reads one moment.
pub(super) async fn list(
    connection: &mut Connection,
    now: Timestamp,
) -> Result<Vec<Worker>, StoreError> {
    let rows = sqlx::query(LIST)
        .fetch_all(&mut *connection)
        .await
        .map_err(failed("list workers"))?;
    let held = held(connection).await?;
    Ok(readable(&rows, |row| worker(row, now, &held)))
}

/// The jobs that each worker holds.
async fn held(connection: &mut Connection) -> Result<BTreeMap<String, Vec<JobId>>, StoreError> {
    let rows = sqlx::query(LIST_HELD)
        .fetch_all(connection)
        .await
        .map_err(failed("list held jobs"))?;
    let mut held: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for row in &rows {
        let (id, columns) = keyed(row)?;
        held.entry(columns.get("lease_owner")?)
            .or_default()
            .push(id);
    }
    Ok(held)
}

/// `held` names the jobs of each worker.
fn worker(
    row: &Row,
    now: Timestamp,
    held: &BTreeMap<String, Vec<JobId>>,
) -> Result<Worker, StoreError> {
    let mut columns = Columns::new(row, "workers");
    let id: String = columns.get("id")?;
    columns.set_key(id.clone());
    Ok(Worker {
        jobs: held.get(&id).cloned().unwrap_or_default(),
        profile: WorkerProfile {
            id,
            host: columns.get("host")?,
            version: columns.get("version")?,
            devices: columns.json("devices")?,
            memory_bytes: columns.optional_count("memory_bytes")?,
            free_disk_bytes: columns.optional_count("free_disk_bytes")?,
            used_bytes: columns.optional_json("used_bytes").unwrap_or_default(),
            spec_version: columns.count("spec_version")?,
        },
        draining: columns.get("draining")?,
        is_lost: columns.time("lost_at")? <= now,
        started_at: columns.time("started_at")?,
        seen_at: columns.time("seen_at")?,
    })
}
