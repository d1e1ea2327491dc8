//! The steps within a transaction that writes.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::requests::lock;
use super::row::{self, Columns, to_json};
use super::workers::may_claim;
use super::{Connection, Row, dialect, milliseconds, outbox, signed, sql};
use crate::domain::ErrorCode;
use crate::domain::JobId;
use crate::domain::job::event::EventKind;
use crate::domain::job::failure::AttemptFailure;
use crate::domain::job::failure::JobError;
use crate::domain::job::progress::Progress;
use crate::domain::job::scheduling::DeviceKind;
use crate::domain::job::state::JobState;
use crate::domain::job::{Job, Publication};
use crate::domain::report::manifest::JobReport;
use crate::domain::spec::Method;
use crate::store::{Claim, Ending, Lease, LeaseCheck, Report, Settled, StoreError, failed};

/// A job that is queued, and those whose artifacts it works on held until it can be seen: whoever deletes one of them
/// looks for such users.
pub(super) async fn insert_job(connection: &mut Connection, job: &Job) -> Result<(), StoreError> {
    let sources: BTreeSet<_> = job
        .spec
        .source_jobs()
        .into_iter()
        .map(|(_, id)| id)
        .collect();
    for source in sources {
        if lock(connection, source).await?.is_none() {
            return Err(StoreError::SourceGone(source));
        }
    }
    let scheduling = &job.scheduling;
    sqlx::query(sql::INSERT_JOB)
        .bind(job.id.to_string())
        .bind(job.name.as_deref())
        .bind(to_json(&job.metadata))
        .bind(job.spec.job_type().as_str())
        .bind(to_json(&job.spec))
        .bind(job.spec.model().id())
        .bind(job.spec.method().map_or("", Method::as_str))
        .bind(job.state.as_str())
        .bind(i64::from(job.attempt))
        .bind(i64::from(job.failed_attempts))
        .bind(i64::from(job.crash_count))
        .bind(i64::from(job.max_attempts))
        .bind(job.run_after.as_millisecond())
        .bind(job.created_at.as_millisecond())
        .bind(job.updated_at.as_millisecond())
        .bind(signed(job.version))
        .bind(i64::from(scheduling.priority))
        .bind(&scheduling.submitter)
        .bind(scheduling.device_kind.map(DeviceKind::as_str))
        .bind(scheduling.memory_bytes.map(signed))
        .bind(scheduling.deadline_after.map(milliseconds))
        .bind(scheduling.deadline_at.map(Timestamp::as_millisecond))
        .bind(job.queued_at.as_millisecond())
        .bind(job.traceparent.as_deref())
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

pub(super) async fn append_event(
    connection: &mut Connection,
    id: JobId,
    attempt: u32,
    kind: &EventKind,
    now: Timestamp,
) -> Result<(), StoreError> {
    let number = sqlx::query(sql::NEXT_EVENT_NUMBER)
        .fetch_one(&mut *connection)
        .await
        .map_err(failed("number an event"))?;
    let number: i64 = Columns::new(&number, "event_numbers").get("last")?;
    let query = sqlx::query(sql::APPEND_EVENT)
        .bind(id.to_string())
        .bind(now.as_millisecond());
    let query = query.bind(i64::from(attempt)).bind(to_json(kind));
    query
        .bind(number)
        .execute(&mut *connection)
        .await
        .map_err(failed("store an event"))?;
    outbox::enqueue(connection, id, kind, now).await
}

/// What a worker that asked for work got.
pub(super) enum Taken {
    Job(Box<Job>),
    /// One that this version cannot read, and that was ended: none of this version ever could.
    Unreadable,
    Nothing,
}

/// Takes the next job.
pub(super) async fn claim_next_job(
    connection: &mut Connection,
    claim: &Claim,
    now: Timestamp,
) -> Result<Taken, StoreError> {
    if !may_claim(connection, &claim.worker_id).await? {
        return Ok(Taken::Nothing);
    }
    let expires_at = now + claim.lease;
    while let Some(id) = pick(connection, claim, now).await? {
        let claimed = sqlx::query(sql::CLAIM)
            .bind(&claim.worker_id)
            .bind(expires_at.as_millisecond())
            .bind(now.as_millisecond())
            .bind(id)
            .fetch_optional(&mut *connection)
            .await
            .map_err(failed("claim a job"))?;
        // Somebody had asked for something else meanwhile.
        let Some(row) = claimed else { continue };
        let (job_id, columns) = row::keyed(&row)?;
        let lease = Lease {
            job_id,
            attempt: columns.count("attempt")?,
            owner: claim.worker_id.clone(),
        };
        start_attempt(connection, &lease, claim, now).await?;
        match row::job(&row) {
            Ok(job) => return Ok(Taken::Job(Box::new(job))),
            Err(error) => {
                end_unreadable(connection, &lease, &error, now).await?;
                return Ok(Taken::Unreadable);
            }
        }
    }
    Ok(Taken::Nothing)
}

/// The job whose turn it is; also one that cannot be read.
pub(super) async fn pick(
    connection: &mut Connection,
    claim: &Claim,
    now: Timestamp,
) -> Result<Option<String>, StoreError> {
    let found = sqlx::query(sql::PICK)
        .bind(&claim.worker_id)
        .bind(now.as_millisecond())
        .bind(claim.device.kind.as_str())
        .bind(claim.device.memory_bytes.map(signed))
        .fetch_optional(connection)
        .await
        .map_err(failed("find the next job"))?;
    found
        .map(|row| Columns::new(&row, "jobs").get("id"))
        .transpose()
}

async fn start_attempt(
    connection: &mut Connection,
    lease: &Lease,
    claim: &Claim,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(sql::INSERT_ATTEMPT)
        .bind(lease.job_id.to_string())
        .bind(i64::from(lease.attempt))
        .bind(&claim.worker_id)
        .bind(&claim.device.name)
        .bind(now.as_millisecond())
        .execute(&mut *connection)
        .await
        .map_err(failed("store an attempt"))?;
    let kind = EventKind::Started {
        worker_id: claim.worker_id.clone(),
        device: claim.device.name.clone(),
    };
    append_event(connection, lease.job_id, lease.attempt, &kind, now).await
}

async fn end_unreadable(
    connection: &mut Connection,
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
pub(super) fn held(row: Option<&Row>) -> Result<LeaseCheck, StoreError> {
    let Some(row) = row else {
        return Ok(LeaseCheck::Lost);
    };
    match Columns::new(row, "jobs").word("state")? {
        JobState::Running => Ok(LeaseCheck::Valid),
        JobState::Pausing => Ok(LeaseCheck::PauseRequested),
        JobState::Cancelling => Ok(LeaseCheck::CancelRequested),
        // Nobody holds a job in these.
        JobState::Queued
        | JobState::Succeeded
        | JobState::Failed
        | JobState::Paused
        | JobState::Cancelled => Ok(LeaseCheck::Lost),
    }
}

pub(super) async fn heartbeat(
    connection: &mut Connection,
    lease: &Lease,
    expires_at: Timestamp,
) -> Result<LeaseCheck, StoreError> {
    let state = sqlx::query(sql::HEARTBEAT)
        .bind(lease.job_id.to_string())
        .bind(i64::from(lease.attempt))
        .bind(&lease.owner)
        .bind(expires_at.as_millisecond())
        .fetch_optional(connection)
        .await
        .map_err(failed("renew a lease"))?;
    held(state.as_ref())
}

pub(super) async fn report(
    connection: &mut Connection,
    lease: &Lease,
    report: &Report,
    now: Timestamp,
) -> Result<LeaseCheck, StoreError> {
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
        .bind(i64::from(lease.attempt))
        .bind(&lease.owner)
        .bind(phase.map(crate::domain::job::progress::Phase::as_str))
        .bind(progress.as_ref().map(to_json))
        .bind(now.as_millisecond())
        .fetch_optional(&mut *connection)
        .await
        .map_err(failed("store progress"))?;
    let held = held(row.as_ref())?;
    if let Some(kind) = event.filter(|_| held != LeaseCheck::Lost) {
        append_event(connection, lease.job_id, lease.attempt, &kind, now).await?;
    }
    Ok(held)
}

pub(super) async fn finish(
    connection: &mut Connection,
    lease: &Lease,
    ending: &Ending,
    unless_renewed: Option<Timestamp>,
    now: Timestamp,
) -> Result<Option<Settled>, StoreError> {
    let locked = sqlx::query(dialect::LOCK_JOB)
        .bind(lease.job_id.to_string())
        .fetch_optional(&mut *connection)
        .await
        .map_err(failed("look up a job"))?;
    let Some(locked) = locked else {
        return Ok(None);
    };
    let settled = ending.settle(Columns::new(&locked, "jobs").word("state")?, now);
    let publication = match ending {
        Ending::Succeeded(publication) => Some(publication),
        Ending::Failed { .. }
        | Ending::Retry { .. }
        | Ending::Cancelled
        | Ending::Paused
        | Ending::Released => None,
    };
    let error = settled.error.as_ref().map(to_json);
    let written = sqlx::query(sql::FINISH)
        .bind(lease.job_id.to_string())
        .bind(i64::from(lease.attempt))
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
        .bind(i64::from(lease.attempt))
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
    connection: &mut Connection,
    id: JobId,
    publication: &Publication,
) -> Result<(), StoreError> {
    let query = sqlx::query(sql::INSERT_PUBLICATION)
        .bind(id.to_string())
        .bind(i64::from(publication.attempt));
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
