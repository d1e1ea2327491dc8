//! What somebody asks of a job, and what its deadline does to it: changes that no worker makes.
//!
//! They are made to what every version of the program can read of a row. So a job that this one cannot read can be ended
//! and deleted all the same.

use jiff::Timestamp;

use super::reads::{job_with_attempts, readable};
use super::row::{self, Columns, Core, to_json};
use super::writes::append_event;
use super::{Connection, dialect, sql};
use crate::domain::ErrorCode;
use crate::domain::JobId;
use crate::domain::job::Job;
use crate::domain::job::event::{Attempt, EventKind};
use crate::domain::job::failure::AttemptFailure;
use crate::domain::job::failure::JobError;
use crate::domain::job::state::{Action, JobState};
use crate::store::{Requested, StoreError, failed};

/// The job, which is nobody else's until the transaction ends.
pub(super) async fn lock(
    connection: &mut Connection,
    id: JobId,
) -> Result<Option<Core>, StoreError> {
    let locked = sqlx::query(dialect::LOCK_JOB)
        .bind(id.to_string())
        .fetch_optional(connection)
        .await
        .map_err(failed("look up a job"))?;
    locked.as_ref().map(row::core).transpose()
}

pub(super) async fn request(
    connection: &mut Connection,
    id: JobId,
    action: Action,
    if_version: Option<u64>,
    now: Timestamp,
) -> Result<Option<Requested>, StoreError> {
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
        let deleted = job_with_attempts(connection, id).await;
        let deleted = shown(deleted, next, Requested::Done)?;
        delete(connection, id, now).await?;
        return Ok(deleted);
    }
    if next == job.state {
        let unchanged = job_with_attempts(connection, id).await;
        return shown(unchanged, next, Requested::Unchanged);
    }
    change(connection, &job, &asked(&job, action, next, now), now).await?;
    append_event(connection, id, job.attempt, &event(action, next), now).await?;
    let changed = job_with_attempts(connection, id).await;
    shown(changed, next, Requested::Done)
}

/// What was done, with the job where that can be read.
fn shown(
    found: Result<Option<(Job, Vec<Attempt>)>, StoreError>,
    state: JobState,
    done: impl Fn(Box<Job>, Vec<Attempt>) -> Requested,
) -> Result<Option<Requested>, StoreError> {
    match found {
        Ok(found) => Ok(found.map(|(job, attempts)| done(Box::new(job), attempts))),
        Err(error @ StoreError::Inconsistent { .. }) => {
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, "something was asked of a job that cannot be read");
            Ok(Some(Requested::Unreadable(state)))
        }
        Err(error) => Err(error),
    }
}

/// A job that is not over and names this one as its model or its baseline.
async fn user_of(connection: &mut Connection, id: JobId) -> Result<Option<JobId>, StoreError> {
    let found = sqlx::query(sql::FIND_USER)
        .bind(id.to_string())
        .fetch_optional(connection)
        .await
        .map_err(failed("look for jobs that use an artifact"))?;
    let user = found.map(|row| Columns::new(&row, "jobs").word("id"));
    user.transpose()
}

/// The job as it is after this.
fn asked(job: &Core, action: Action, next: JobState, now: Timestamp) -> Core {
    let is_queued = next == JobState::Queued;
    // Not by a clock that was set back since.
    let is_put_off = job.run_after > now.max(job.queued_at);
    let asked = Core {
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
        return asked;
    }
    // What it was submitted with; after an attempt it is past, or says how long to wait before the next one.
    let is_scheduled = is_put_off && job.attempt == 0;
    Core {
        run_after: if is_scheduled { job.run_after } else { now },
        failed_attempts: 0,
        crash_count: 0,
        error: None,
        deadline_at: job.deadline_after.map(|after| now + after),
        ..asked
    }
}

fn event(action: Action, next: JobState) -> EventKind {
    match (action, next) {
        (Action::Retry, _) => EventKind::Retried,
        (Action::Resume, _) => EventKind::Continued,
        (Action::Pause, JobState::Pausing) => EventKind::Pausing,
        (Action::Pause, _) => EventKind::Paused,
        (Action::Cancel, JobState::Cancelling) => EventKind::Cancelling,
        (Action::Cancel | Action::Delete, _) => EventKind::Cancelled,
    }
}

/// Writes what such a change changes.
async fn change(
    connection: &mut Connection,
    before: &Core,
    after: &Core,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(sql::CHANGE)
        .bind(before.id.to_string())
        .bind(before.state.as_str())
        .bind(after.state.as_str())
        .bind(after.state.is_terminal().then(|| now.as_millisecond()))
        .bind(now.as_millisecond())
        .bind(after.queued_at.as_millisecond())
        .bind(after.run_after.as_millisecond())
        .bind(i64::from(after.failed_attempts))
        .bind(i64::from(after.crash_count))
        .bind(&after.error)
        .bind(after.deadline_at.map(Timestamp::as_millisecond))
        .execute(connection)
        .await
        .map_err(failed("change a job"))?;
    Ok(())
}

async fn delete(connection: &mut Connection, id: JobId, now: Timestamp) -> Result<(), StoreError> {
    sqlx::query(sql::DELETE_JOB)
        .bind(id.to_string())
        .execute(&mut *connection)
        .await
        .map_err(failed("delete a job"))?;
    sqlx::query(sql::INSERT_DELETED)
        .bind(id.to_string())
        .bind(now.as_millisecond())
        .execute(connection)
        .await
        .map_err(failed("note that a job was deleted"))?;
    Ok(())
}

/// The jobs past their deadline that nobody works on.
pub(super) async fn overdue(
    connection: &mut Connection,
    now: Timestamp,
) -> Result<Vec<JobId>, StoreError> {
    let rows = sqlx::query(sql::LIST_OVERDUE)
        .bind(now.as_millisecond())
        .fetch_all(connection)
        .await
        .map_err(failed("list jobs past their deadline"))?;
    let id = |row: &_| Columns::new(row, "jobs").word("id");
    Ok(readable(&rows, id))
}

/// Ends a job past its deadline; `false` where that is not so any more.
pub(super) async fn fail_overdue(
    connection: &mut Connection,
    id: JobId,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let Some(job) = lock(connection, id).await? else {
        return Ok(false);
    };
    let is_waiting = matches!(job.state, JobState::Queued | JobState::Paused);
    if !is_waiting || job.deadline_at.is_none_or(|at| at > now) {
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
    let failed = Core {
        state: JobState::Failed,
        error: Some(to_json(&error)),
        ..job.clone()
    };
    change(connection, &job, &failed, now).await?;
    append_event(
        connection,
        id,
        job.attempt,
        &EventKind::Failed { error },
        now,
    )
    .await?;
    Ok(true)
}
