//! The table `queue`, and what waits in `jobs`.

use std::time::Duration;

use jiff::Timestamp;

use super::columns::{Columns, keyed, to_json};
use super::{Connection, Connections, Database, Pool, Reading, Row, Writing, workers};
use crate::domain::JobId;
use crate::domain::queue::places::{PastRun, Places};
use crate::domain::queue::{ClusterState, Group, Needs, QueueContent, SubmitterLoad};
use crate::store::{QueueStore, StoreError, StoreFuture, failed};

const LOOKUP: &str = "select paused, changed_at from queue where id = 1";

/// Locks the one row until the transaction ends: claims come one after the other.
const LOCK: &str = concat!("select paused from queue where id = 1", for_update!());

const SET_PAUSED: &str =
    "update queue set paused = $1, changed_at = $2 where id = 1 and paused <> $1";

const COUNT_HELD: &str =
    "select count(*) as jobs from jobs where state in ('running', 'pausing', 'cancelling')";

const GROUP_QUEUED: &str = "\
select run_after > $1 and run_after > queued_at as is_delayed, error is not null as is_retry, device_kind, \
memory_bytes, disk_bytes, spec_version, count(*) as jobs, \
min(case when run_after > queued_at then run_after else queued_at end) as since \
from jobs where state = 'queued' group by 1, 2, 3, 4, 5, 6";

const GROUP_SUBMITTERS: &str = "\
select submitter, count(case when state = 'queued' then 1 end) as queued, \
count(case when state <> 'queued' then 1 end) as running \
from jobs where state in ('queued', 'running', 'pausing', 'cancelling') \
group by submitter order by 2 desc, 1 limit $1";

const LIST_PLACES: &str = concat!(
    "\
with place as ( \
select id, row_number() over (order by priority desc, id) as position from jobs where state = 'queued' \
) select id, position from place where id ",
    any_of!("$1")
);

/// Of the jobs that succeeded last.
const MEAN_RUN: &str = "\
select cast(avg(finished_at - started_at) as bigint) as mean from ( \
select finished_at, started_at from jobs where state = 'succeeded' order by id desc limit 20) as recent";

/// Jobs that succeeded lately and whose work is known.
const RECENT_RUNS: &str = "\
select work, device_kind, finished_at - started_at as took from jobs \
where state = 'succeeded' and attempt = 1 and work > 0 order by id desc limit 20";

impl QueueStore for Database {
    fn set_paused(&self, paused: bool) -> StoreFuture<'_, ()> {
        Connections::bounded(async move {
            let mut writing = Writing::begin(self).await?;
            sqlx::query(SET_PAUSED)
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
            let mut reading = Reading::begin(self).await?;
            let state = cluster_state(&mut reading.transaction, reading.now).await?;
            reading.end().await?;
            Ok(state)
        })
    }

    fn queue_overview(&self, submitters: u32) -> StoreFuture<'_, (ClusterState, QueueContent)> {
        Connections::bounded(async move {
            let mut reading = Reading::begin(self).await?;
            let (transaction, now) = (&mut reading.transaction, reading.now);
            let state = cluster_state(transaction, now).await?;
            let content = content(transaction, submitters, now).await?;
            reading.end().await?;
            Ok((state, content))
        })
    }

    fn places<'a>(&'a self, ids: &'a [JobId]) -> StoreFuture<'a, Places> {
        Connections::bounded(async move {
            let rows = sqlx::query(LIST_PLACES)
                .bind(to_json(&ids))
                .fetch_all(self.connections.readers())
                .await
                .map_err(failed("list the places of jobs"))?;
            let place = |row| {
                let (id, columns) = keyed(row)?;
                Ok((id, columns.count("position")?))
            };
            let mean = sqlx::query(MEAN_RUN)
                .fetch_one(self.connections.readers())
                .await
                .map_err(failed("look up how long jobs run"))?;
            let mean = Columns::new(&mean, "recent jobs").optional_count("mean")?;
            Ok(Places {
                positions: rows.iter().map(place).collect::<Result<_, StoreError>>()?,
                mean_run: mean.map(Duration::from_millis),
                recent: recent_runs(self.connections.readers()).await?,
            })
        })
    }

    fn recent_runs(&self) -> StoreFuture<'_, Vec<PastRun>> {
        Connections::bounded(recent_runs(self.connections.readers()))
    }
}

async fn recent_runs(pool: &Pool) -> Result<Vec<PastRun>, StoreError> {
    let rows = sqlx::query(RECENT_RUNS)
        .fetch_all(pool)
        .await
        .map_err(failed("look up recent jobs"))?;
    let run = |row| {
        let columns = Columns::new(row, "recent jobs");
        Ok(PastRun {
            work: columns.count("work")?,
            device: columns.optional_word("device_kind")?,
            took: Duration::from_millis(columns.count("took").unwrap_or_default()),
        })
    };
    rows.iter().map(run).collect()
}

/// Whether this worker may claim now: the queue is not paused, and the worker not draining. Both stay so until the
/// transaction ends, and no other worker claims before: the next one sees what this one took.
pub(super) async fn may_claim(
    connection: &mut Connection,
    worker_id: &str,
) -> Result<bool, StoreError> {
    let queue = sqlx::query(LOCK)
        .fetch_one(&mut *connection)
        .await
        .map_err(failed("look up the queue"))?;
    let is_paused: bool = Columns::new(&queue, "queue").get("paused")?;
    Ok(!is_paused && !workers::is_draining(connection, worker_id).await?)
}

async fn cluster_state(
    connection: &mut Connection,
    now: Timestamp,
) -> Result<ClusterState, StoreError> {
    let workers = workers::list(connection, now).await?;
    let queue = sqlx::query(LOOKUP)
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

async fn content(
    connection: &mut Connection,
    submitters: u32,
    now: Timestamp,
) -> Result<QueueContent, StoreError> {
    let groups = sqlx::query(GROUP_QUEUED)
        .bind(now.as_millisecond())
        .fetch_all(&mut *connection)
        .await
        .map_err(failed("group the queued jobs"))?;
    let running = sqlx::query(COUNT_HELD)
        .fetch_one(&mut *connection)
        .await
        .map_err(failed("count held jobs"))?;
    let loads = sqlx::query(GROUP_SUBMITTERS)
        .bind(i64::from(submitters))
        .fetch_all(connection)
        .await
        .map_err(failed("group the submitters"))?;
    Ok(QueueContent {
        running: Columns::new(&running, "held jobs").count("jobs")?,
        groups: groups.iter().map(group).collect::<Result<_, _>>()?,
        submitters: loads.iter().map(submitter_load).collect::<Result<_, _>>()?,
    })
}

fn group(row: &Row) -> Result<Group, StoreError> {
    let columns = Columns::new(row, "jobs by need");
    Ok(Group {
        needs: Needs {
            is_delayed: columns.get("is_delayed")?,
            is_retry: columns.get("is_retry")?,
            device: columns.optional_word("device_kind")?,
            memory_bytes: columns.optional_count("memory_bytes")?,
            disk_bytes: columns.optional_count("disk_bytes")?,
            spec_version: columns.count("spec_version")?,
        },
        jobs: columns.count("jobs")?,
        since: columns.time("since")?,
    })
}

fn submitter_load(row: &Row) -> Result<SubmitterLoad, StoreError> {
    let columns = Columns::new(row, "jobs by submitter");
    Ok(SubmitterLoad {
        submitter: columns.get("submitter")?,
        queued: columns.count("queued")?,
        running: columns.count("running")?,
    })
}
