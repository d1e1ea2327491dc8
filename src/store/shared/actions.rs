//! What clients ask of a job, and what its deadline does to it: changes to `jobs` that no worker makes.
//!
//! They do not depend on its spec: a job of a newer spec version can be ended and deleted all the same.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

use super::columns::{Columns, keyed, milliseconds, readable, to_json};
use super::jobs::job_columns;
use super::{Connection, Connections, Database, Reading, Row, Writing, attempts, events, jobs};
use crate::domain::job::event::EventKind;
use crate::domain::job::failure::{AttemptFailure, JobError};
use crate::domain::job::state::{Action, JobState};
use crate::domain::job::{Cancellation, Job};
use crate::domain::{ErrorCode, JobId};
use crate::store::{JobActions, Requested, StoreError, StoreFuture, failed};

/// Locks the row until the transaction ends.
const LOCK: &str = concat!(
    "select ",
    job_columns!(),
    " from jobs where id = $1",
    for_update!()
);

/// The row is locked when this runs.
const CHANGE: &str = "\
update jobs set state = $3, finished_at = $4, updated_at = $5, queued_at = $6, run_after = $7, failed_attempts = $8, \
crash_count = $9, error = $10, deadline_at = $11, phase = case when $3 = 'queued' then null else phase end, \
progress = $12, cancellation = $13, version = version + 1 \
where id = $1 and state = $2";

const FIND_USER: &str = "\
select jobs.id from job_sources join jobs on jobs.id = job_id \
where source_id = $1 and state in ('queued', 'running', 'pausing', 'paused', 'cancelling') limit 1";

/// So that the message that tells of the deletion comes after all others.
const RAISE_VERSION: &str = "update jobs set version = version + 1 where id = $1";

const DELETE: &str = "delete from jobs where id = $1";

/// The last event, which is that of the deletion, outlives the log.
const INSERT_DELETED: &str = "\
insert into deleted_jobs (id, deleted_at, number, seq, attempt, kind) \
select job_id, at, number, seq, attempt, kind from events where job_id = $1 order by seq desc limit 1";

const LIST_DELETED: &str = concat!("select id from deleted_jobs where id ", any_of!("$1"));

const LIST_DELETED_SINCE: &str = "select id from deleted_jobs where deleted_at >= $1";

const FORGET_DELETED: &str = "delete from deleted_jobs where deleted_at < $1";

const SET_KEPT: &str =
    "update jobs set kept = $2, updated_at = $3, version = version + 1 where id = $1";

const LIST_EXPIRED: &str = "\
select id, version from jobs where finished_at is not null and finished_at < $1 and not kept and not exists ( \
select 1 from job_sources join jobs as user_job on user_job.id = job_sources.job_id \
where job_sources.source_id = jobs.id and user_job.state in ('queued', 'running', 'pausing', 'paused', 'cancelling')) \
order by finished_at, id limit 100 offset $2";

const LIST_OVERDUE: &str = "\
select id from jobs where deadline_at <= $1 and state in ('queued', 'paused') order by id limit 20";

impl JobActions for Database {
    fn request(
        &self,
        id: JobId,
        action: Action,
        if_version: Option<u64>,
    ) -> StoreFuture<'_, Option<Requested>> {
        Connections::bounded(async move {
            let mut writing = Writing::begin(self).await?;
            let (transaction, now) = (&mut writing.transaction, writing.now);
            let asked = ActionRequest {
                action,
                if_version,
                by: None,
                reason: None,
            };
            let done = act(transaction, id, asked, now).await?;
            writing.commit("change a job").await?;
            Ok(done)
        })
    }

    fn cancel<'a>(
        &'a self,
        id: JobId,
        if_version: Option<u64>,
        by: Option<&'a str>,
        reason: Option<&'a str>,
    ) -> StoreFuture<'a, Option<Requested>> {
        Connections::bounded(async move {
            let mut writing = Writing::begin(self).await?;
            let (transaction, now) = (&mut writing.transaction, writing.now);
            let asked = ActionRequest {
                action: Action::Cancel,
                if_version,
                by: by.map(str::to_owned),
                reason: reason.map(str::to_owned),
            };
            let done = act(transaction, id, asked, now).await?;
            writing.commit("change a job").await?;
            Ok(done)
        })
    }

    fn set_kept(
        &self,
        id: JobId,
        kept: bool,
        if_version: Option<u64>,
    ) -> StoreFuture<'_, Option<Requested>> {
        Connections::bounded(async move {
            let mut writing = Writing::begin(self).await?;
            let (transaction, now) = (&mut writing.transaction, writing.now);
            let done = set_kept(transaction, id, kept, if_version, now).await?;
            writing.commit("keep a job").await?;
            Ok(done)
        })
    }

    fn list_expired(&self, age: Duration, skip: u32) -> StoreFuture<'_, Vec<(JobId, u64)>> {
        Connections::bounded(async move {
            let mut reading = Reading::begin(self).await?;
            let rows = sqlx::query(LIST_EXPIRED)
                .bind(reading.now.as_millisecond() - milliseconds(age))
                .bind(i64::from(skip))
                .fetch_all(&mut *reading.transaction)
                .await
                .map_err(failed("list jobs to delete"))?;
            reading.end().await?;
            Ok(readable(&rows, |row| {
                let (id, columns) = keyed(row)?;
                Ok((id, columns.count("version")?))
            }))
        })
    }

    fn fail_overdue(&self) -> StoreFuture<'_, Vec<JobId>> {
        Connections::bounded(async move {
            let mut reading = Reading::begin(self).await?;
            let overdue = overdue(&mut reading.transaction, reading.now).await?;
            reading.end().await?;
            let mut ended = Vec::new();
            for id in overdue {
                let mut writing = Writing::begin(self).await?;
                let (transaction, now) = (&mut writing.transaction, writing.now);
                match fail_overdue(transaction, id, now).await {
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

    fn list_deleted<'a>(&'a self, ids: &'a [JobId]) -> StoreFuture<'a, BTreeSet<JobId>> {
        Connections::bounded(async move {
            let rows = sqlx::query(LIST_DELETED)
                .bind(to_json(&ids))
                .fetch_all(self.connections.readers())
                .await
                .map_err(failed("look up deleted jobs"))?;
            let ids = rows.iter();
            ids.map(|row| Columns::new(row, "deleted_jobs").word("id"))
                .collect()
        })
    }

    fn list_deleted_since(&self, age: Duration) -> StoreFuture<'_, Vec<JobId>> {
        Connections::bounded(async move {
            let mut reading = Reading::begin(self).await?;
            let rows = sqlx::query(LIST_DELETED_SINCE)
                .bind(reading.now.as_millisecond() - milliseconds(age))
                .fetch_all(&mut *reading.transaction)
                .await
                .map_err(failed("look up deleted jobs"))?;
            reading.end().await?;
            let ids = rows.iter();
            ids.map(|row| Columns::new(row, "deleted_jobs").word("id"))
                .collect()
        })
    }

    fn forget_deleted(&self, age: Duration) -> StoreFuture<'_, ()> {
        Connections::bounded(async move {
            let mut writing = Writing::begin(self).await?;
            sqlx::query(FORGET_DELETED)
                .bind(writing.now.as_millisecond() - milliseconds(age))
                .execute(&mut *writing.transaction)
                .await
                .map_err(failed("forget deleted jobs"))?;
            writing.commit("forget deleted jobs").await
        })
    }
}

/// Locks a job until the transaction ends.
pub(super) async fn lock(
    connection: &mut Connection,
    id: JobId,
) -> Result<Option<Job>, StoreError> {
    let row = lock_row(connection, id).await?;
    row.as_ref().map(jobs::job).transpose()
}

/// Locks the row of a job that may be damaged.
pub(super) async fn lock_row(
    connection: &mut Connection,
    id: JobId,
) -> Result<Option<Row>, StoreError> {
    sqlx::query(LOCK)
        .bind(id.to_string())
        .fetch_optional(connection)
        .await
        .map_err(failed("look up a job"))
}

/// What is asked of a job.
struct ActionRequest {
    action: Action,
    if_version: Option<u64>,
    by: Option<String>,
    reason: Option<String>,
}

async fn act(
    connection: &mut Connection,
    id: JobId,
    asked: ActionRequest,
    now: Timestamp,
) -> Result<Option<Requested>, StoreError> {
    let ActionRequest {
        action,
        if_version,
        by,
        reason,
    } = asked;
    let Some(job) = lock(connection, id).await? else {
        return Ok(None);
    };
    if if_version.is_some_and(|version| version != job.version) {
        return Ok(Some(Requested::Stale(job.version)));
    }
    let Some(next) = action.after(job.state) else {
        return Ok(Some(Requested::NotAllowed(job.state)));
    };
    if action == Action::Delete {
        if let Some(user) = user_of(connection, id).await? {
            return Ok(Some(Requested::InUse(user)));
        }
        let attempts = attempts::list(connection, id).await?;
        sqlx::query(RAISE_VERSION)
            .bind(id.to_string())
            .execute(&mut *connection)
            .await
            .map_err(failed("delete a job"))?;
        let deleted = event(&job, action, next);
        events::append(connection, id, job.attempt, &deleted, now).await?;
        delete(connection, id).await?;
        return Ok(Some(Requested::Done(Box::new(job), attempts)));
    }
    if next == job.state {
        let attempts = attempts::list(connection, id).await?;
        return Ok(Some(Requested::Unchanged(Box::new(job), attempts)));
    }
    let mut after = after(&job, action, next, now);
    if action == Action::Cancel {
        after.cancellation = Some(Cancellation {
            requested_at: now,
            by,
            reason,
        });
    }
    change(connection, &job, &after, now).await?;
    let kind = event(&job, action, next);
    events::append(connection, id, job.attempt, &kind, now).await?;
    let changed = jobs::with_attempts(connection, id).await?;
    Ok(changed.map(|(job, attempts)| Requested::Done(Box::new(job), attempts)))
}

async fn set_kept(
    connection: &mut Connection,
    id: JobId,
    kept: bool,
    if_version: Option<u64>,
    now: Timestamp,
) -> Result<Option<Requested>, StoreError> {
    let Some(job) = lock(connection, id).await? else {
        return Ok(None);
    };
    if if_version.is_some_and(|version| version != job.version) {
        return Ok(Some(Requested::Stale(job.version)));
    }
    if job.kept == kept {
        let attempts = attempts::list(connection, id).await?;
        return Ok(Some(Requested::Unchanged(Box::new(job), attempts)));
    }
    sqlx::query(SET_KEPT)
        .bind(id.to_string())
        .bind(kept)
        .bind(now.as_millisecond())
        .execute(&mut *connection)
        .await
        .map_err(failed("keep a job"))?;
    let changed = jobs::with_attempts(connection, id).await?;
    Ok(changed.map(|(job, attempts)| Requested::Done(Box::new(job), attempts)))
}

/// Finds a job that is not over and names this one as its model or baseline.
async fn user_of(connection: &mut Connection, id: JobId) -> Result<Option<JobId>, StoreError> {
    let found = sqlx::query(FIND_USER)
        .bind(id.to_string())
        .fetch_optional(connection)
        .await
        .map_err(failed("look for jobs that use an artifact"))?;
    let user = found.map(|row| Columns::new(&row, "jobs").word("id"));
    user.transpose()
}

/// The job as it is after this.
fn after(job: &Job, action: Action, next: JobState, now: Timestamp) -> Job {
    let is_queued = next == JobState::Queued;
    // Not by a clock that was set back since.
    let is_put_off = job.run_after > now.max(job.queued_at);
    let changed = Job {
        state: next,
        queued_at: if is_queued { now } else { job.queued_at },
        run_after: if is_queued && !is_put_off {
            job.run_after.min(now)
        } else {
            job.run_after
        },
        // Of an attempt before: it is not why the job is over.
        error: job.error.clone().filter(|_| next != JobState::Cancelled),
        ..job.clone()
    };
    if action != Action::Retry {
        return changed;
    }
    // What it was submitted with; after an attempt it is past, or says how long to wait before the next one.
    let is_scheduled = is_put_off && job.attempt == 0;
    Job {
        run_after: if is_scheduled { job.run_after } else { now },
        failed_attempts: 0,
        crash_count: 0,
        error: None,
        progress: None,
        cancellation: None,
        scheduling: job.scheduling.clone().begun_at(now),
        ..changed
    }
}

fn event(job: &Job, action: Action, next: JobState) -> EventKind {
    let artifact_bytes = || job.outcome.as_ref().map(|outcome| outcome.size_bytes);
    match (action, next) {
        (Action::Retry, _) => EventKind::Retried,
        (Action::Resume, _) => EventKind::Continued,
        (Action::Pause, JobState::Pausing) => EventKind::Pausing,
        (Action::Pause, _) => EventKind::Paused,
        (Action::Cancel, JobState::Cancelling) => EventKind::Cancelling,
        (Action::Cancel, _) => EventKind::Cancelled,
        (Action::Delete, _) => EventKind::Deleted {
            freed_bytes: artifact_bytes().unwrap_or_default(),
        },
    }
}

/// Writes the columns that such a change may change.
async fn change(
    connection: &mut Connection,
    before: &Job,
    after: &Job,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(CHANGE)
        .bind(before.id.to_string())
        .bind(before.state.as_str())
        .bind(after.state.as_str())
        .bind(after.state.is_terminal().then(|| now.as_millisecond()))
        .bind(now.as_millisecond())
        .bind(after.queued_at.as_millisecond())
        .bind(after.run_after.as_millisecond())
        .bind(i64::from(after.failed_attempts))
        .bind(i64::from(after.crash_count))
        .bind(after.error.as_ref().map(to_json))
        .bind(after.scheduling.deadline_at.map(Timestamp::as_millisecond))
        .bind(after.progress.as_ref().map(to_json))
        .bind(after.cancellation.as_ref().map(to_json))
        .execute(connection)
        .await
        .map_err(failed("change a job"))?;
    Ok(())
}

async fn delete(connection: &mut Connection, id: JobId) -> Result<(), StoreError> {
    sqlx::query(INSERT_DELETED)
        .bind(id.to_string())
        .execute(&mut *connection)
        .await
        .map_err(failed("note that a job was deleted"))?;
    sqlx::query(DELETE)
        .bind(id.to_string())
        .execute(connection)
        .await
        .map_err(failed("delete a job"))?;
    Ok(())
}

/// Lists the jobs past their deadline that no worker holds.
async fn overdue(connection: &mut Connection, now: Timestamp) -> Result<Vec<JobId>, StoreError> {
    let rows = sqlx::query(LIST_OVERDUE)
        .bind(now.as_millisecond())
        .fetch_all(connection)
        .await
        .map_err(failed("list jobs past their deadline"))?;
    let id = |row: &_| Columns::new(row, "jobs").word("id");
    Ok(readable(&rows, id))
}

/// Fails a job past its deadline; `false` where it is not any more.
async fn fail_overdue(
    connection: &mut Connection,
    id: JobId,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let Some(job) = lock(connection, id).await? else {
        return Ok(false);
    };
    let is_waiting = matches!(job.state, JobState::Queued | JobState::Paused);
    if !is_waiting || job.scheduling.deadline_at.is_none_or(|at| at > now) {
        return Ok(false);
    }
    let code = ErrorCode::DeadlineExceeded;
    let message = format!("the job was {} at its deadline", job.state.as_str());
    let error = JobError {
        failure: AttemptFailure {
            code,
            message,
            phase: None,
            retryable: code.retryable(),
        },
        attempt: job.attempt,
    };
    let failed = Job {
        state: JobState::Failed,
        error: Some(error.clone()),
        ..job.clone()
    };
    change(connection, &job, &failed, now).await?;
    events::append(
        connection,
        id,
        job.attempt,
        &EventKind::Failed { error },
        now,
    )
    .await?;
    Ok(true)
}
