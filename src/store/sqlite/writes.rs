//! The steps within a transaction that writes.

use jiff::Timestamp;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::failed;
use super::reads::job_with_attempts;
use super::row::{self, Columns, to_json};
use super::sql;
use crate::domain::attempt::AttemptFailure;
use crate::domain::history::{Attempt, EventKind};
use crate::domain::job::{Job, JobError, JobId, Progress, Publication};
use crate::domain::state::JobState;
use crate::domain::{ErrorCode, JobReport, Method};
use crate::store::{Claim, Ending, Held, Lease, Report, Settled, StoreError};

pub(super) async fn insert_job(
    connection: &mut SqliteConnection,
    job: &Job,
) -> Result<(), StoreError> {
    sqlx::query(sql::INSERT_JOB)
        .bind(job.id.to_string())
        .bind(job.name.as_deref())
        .bind(to_json(&job.metadata))
        .bind(job.spec.job_type().as_str())
        .bind(to_json(&job.spec))
        .bind(job.spec.model().id())
        .bind(job.spec.method().map_or("", Method::as_str))
        .bind(job.state.as_str())
        .bind(job.attempt)
        .bind(job.failed_attempts)
        .bind(job.crash_count)
        .bind(job.max_attempts)
        .bind(job.run_after.as_millisecond())
        .bind(job.created_at.as_millisecond())
        .bind(job.updated_at.as_millisecond())
        .bind(super::signed(job.version))
        .execute(&mut *connection)
        .await
        .map_err(failed("store a job"))?;
    append_event(
        connection,
        job.id,
        job.attempt,
        &EventKind::Queued,
        job.created_at,
    )
    .await
}

async fn append_event(
    connection: &mut SqliteConnection,
    id: JobId,
    attempt: u32,
    kind: &EventKind,
    now: Timestamp,
) -> Result<(), StoreError> {
    let query = sqlx::query(sql::APPEND_EVENT)
        .bind(id.to_string())
        .bind(now.as_millisecond());
    let query = query.bind(attempt).bind(to_json(kind));
    query
        .execute(connection)
        .await
        .map_err(failed("store an event"))?;
    Ok(())
}

pub(super) async fn request_cancel(
    connection: &mut SqliteConnection,
    id: JobId,
    now: Timestamp,
) -> Result<Option<(Job, Vec<Attempt>)>, StoreError> {
    let Some((job, attempts)) = job_with_attempts(connection, id).await? else {
        return Ok(None);
    };
    let Some(next) = job
        .state
        .after_cancel_request()
        .filter(|&next| next != job.state)
    else {
        return Ok(Some((job, attempts)));
    };
    sqlx::query(sql::REQUEST_CANCEL)
        .bind(id.to_string())
        .bind(job.state.as_str())
        .bind(next.as_str())
        .bind(next.is_terminal().then(|| now.as_millisecond()))
        .bind(now.as_millisecond())
        .execute(&mut *connection)
        .await
        .map_err(failed("cancel a job"))?;
    let kind = if next.is_terminal() {
        EventKind::Cancelled
    } else {
        EventKind::Cancelling
    };
    append_event(connection, id, job.attempt, &kind, now).await?;
    job_with_attempts(connection, id).await
}

/// Takes the oldest job that can be read, and ends those before it that cannot: nobody of this version ever could.
pub(super) async fn claim_next_job(
    connection: &mut SqliteConnection,
    claim: &Claim,
) -> Result<Option<Job>, StoreError> {
    loop {
        let claimed = sqlx::query(sql::CLAIM)
            .bind(&claim.worker_id)
            .bind(claim.expires_at.as_millisecond())
            .bind(claim.now.as_millisecond())
            .fetch_optional(&mut *connection)
            .await
            .map_err(failed("claim a job"))?;
        let Some(row) = claimed else { return Ok(None) };
        let (job_id, columns) = row::keyed(&row)?;
        let lease = Lease {
            job_id,
            attempt: columns.count("attempt")?,
            owner: claim.worker_id.clone(),
        };
        start_attempt(connection, &lease, claim).await?;
        match row::job(&row) {
            Ok(job) => return Ok(Some(job)),
            Err(error) => end_unreadable(connection, &lease, &error, claim.now).await?,
        }
    }
}

async fn start_attempt(
    connection: &mut SqliteConnection,
    lease: &Lease,
    claim: &Claim,
) -> Result<(), StoreError> {
    sqlx::query(sql::INSERT_ATTEMPT)
        .bind(lease.job_id.to_string())
        .bind(lease.attempt)
        .bind(&claim.worker_id)
        .bind(&claim.device)
        .bind(claim.now.as_millisecond())
        .execute(&mut *connection)
        .await
        .map_err(failed("store an attempt"))?;
    let kind = EventKind::Started {
        worker_id: claim.worker_id.clone(),
        device: claim.device.clone(),
    };
    append_event(connection, lease.job_id, lease.attempt, &kind, claim.now).await
}

async fn end_unreadable(
    connection: &mut SqliteConnection,
    lease: &Lease,
    error: &StoreError,
    now: Timestamp,
) -> Result<(), StoreError> {
    tracing::error!(error = error as &dyn std::error::Error, job.id = %lease.job_id, "a stored job cannot be read, it fails");
    let code = ErrorCode::Internal;
    let failure = AttemptFailure {
        code,
        message: format!("the stored job cannot be read by this version: {error}"),
        phase: None,
        retryable: code.retryable(),
    };
    let ending = Ending::Failed {
        error: JobError {
            failure,
            attempt: lease.attempt,
        },
        crashed: false,
    };
    finish(connection, lease, &ending, None, now).await?;
    Ok(())
}

/// What the state that a fenced statement returned, or did not return, means for the holder.
pub(super) fn held(row: Option<&SqliteRow>) -> Result<Held, StoreError> {
    let Some(row) = row else {
        return Ok(Held::Lost);
    };
    match Columns::new(row, "jobs").word("state")? {
        JobState::Running => Ok(Held::Yes),
        JobState::Cancelling => Ok(Held::CancelRequested),
        // Nobody holds a job in these.
        JobState::Queued | JobState::Succeeded | JobState::Failed | JobState::Cancelled => {
            Ok(Held::Lost)
        }
    }
}

pub(super) async fn report(
    connection: &mut SqliteConnection,
    lease: &Lease,
    report: &Report,
    now: Timestamp,
) -> Result<Held, StoreError> {
    let (phase, progress, event) = match report {
        Report::Phase(phase) => (Some(*phase), None, Some(EventKind::Phase { phase: *phase })),
        Report::Step(step) => (
            None,
            Some(Progress {
                step: step.clone(),
                updated_at: now,
            }),
            None,
        ),
        Report::Resumed { block, blocks } => (
            None,
            None,
            Some(EventKind::Resumed {
                block: *block,
                blocks: *blocks,
            }),
        ),
    };
    let row = sqlx::query(sql::REPORT)
        .bind(lease.job_id.to_string())
        .bind(lease.attempt)
        .bind(&lease.owner)
        .bind(phase.map(crate::domain::attempt::Phase::as_str))
        .bind(progress.as_ref().map(to_json))
        .bind(now.as_millisecond())
        .fetch_optional(&mut *connection)
        .await
        .map_err(failed("store progress"))?;
    let held = held(row.as_ref())?;
    if let Some(kind) = event.filter(|_| held != Held::Lost) {
        append_event(connection, lease.job_id, lease.attempt, &kind, now).await?;
    }
    Ok(held)
}

pub(super) async fn finish(
    connection: &mut SqliteConnection,
    lease: &Lease,
    ending: &Ending,
    unless_renewed: Option<Timestamp>,
    now: Timestamp,
) -> Result<Option<Settled>, StoreError> {
    let state = sqlx::query(sql::LOOKUP_STATE)
        .bind(lease.job_id.to_string())
        .fetch_optional(&mut *connection)
        .await
        .map_err(failed("look up a job"))?;
    let Some(state) = state else { return Ok(None) };
    let settled = ending.settle(Columns::new(&state, "jobs").word("state")?);
    let publication = match ending {
        Ending::Succeeded(publication) => Some(publication),
        Ending::Failed { .. } | Ending::Retry { .. } | Ending::Cancelled | Ending::Released => None,
    };
    let error = settled.error.as_ref().map(to_json);
    let written = sqlx::query(sql::FINISH)
        .bind(lease.job_id.to_string())
        .bind(lease.attempt)
        .bind(&lease.owner)
        .bind(settled.state.as_str())
        .bind(i64::from(settled.counts))
        .bind(i64::from(settled.crashed))
        .bind(settled.run_after.map(Timestamp::as_millisecond))
        .bind(&error)
        .bind(publication.map(|publication| to_json(&publication.outcome())))
        .bind(settled.state.is_terminal().then(|| now.as_millisecond()))
        .bind(now.as_millisecond())
        .bind(unless_renewed.map(Timestamp::as_millisecond))
        .execute(&mut *connection)
        .await
        .map_err(failed("finish an attempt"))?;
    if written.rows_affected() == 0 {
        return Ok(None);
    }
    if let Some(publication) = publication {
        publish(connection, lease.job_id, publication).await?;
    }
    sqlx::query(sql::CLOSE_ATTEMPT)
        .bind(lease.job_id.to_string())
        .bind(lease.attempt)
        .bind(now.as_millisecond())
        .bind(settled.outcome.as_str())
        .bind(&error)
        .execute(&mut *connection)
        .await
        .map_err(failed("close an attempt"))?;
    append_event(connection, lease.job_id, lease.attempt, &settled.event, now).await?;
    Ok(Some(settled))
}

async fn publish(
    connection: &mut SqliteConnection,
    id: JobId,
    publication: &Publication,
) -> Result<(), StoreError> {
    let query = sqlx::query(sql::INSERT_PUBLICATION)
        .bind(id.to_string())
        .bind(publication.attempt);
    let query = query
        .bind(match &publication.report {
            JobReport::Prune(manifest) => to_json(manifest),
            JobReport::Evaluate(report) => to_json(report),
        })
        .bind(to_json(&publication.files));
    query
        .execute(connection)
        .await
        .map_err(failed("store a report"))?;
    Ok(())
}
