//! Leases, in the table `jobs`.

use std::time::Duration;

use jiff::Timestamp;

use super::columns::{Columns, keyed, readable, signed, to_json};
use super::jobs::{job, job_columns};
use super::queue::may_claim;
use super::{
    Connection, Connections, Database, Reading, Row, Writing, actions, attempts, events,
    schema_is_known,
};
use crate::domain::ErrorCode;
use crate::domain::job::Job;
use crate::domain::job::attempt_end::{AttemptEnd, Settled};
use crate::domain::job::event::EventKind;
use crate::domain::job::failure::{AttemptFailure, JobError};
use crate::domain::job::progress::{Overall, Phase, Progress};
use crate::domain::job::retry::Budget;
use crate::domain::job::state::JobState;
use crate::domain::spec::{SPEC_VERSION, StoredSpec};
use crate::store::{
    Claim, Lease, LeaseCheck, LeaseInfo, LeaseStore, Report, StoreError, StoreFuture, failed,
};

/// The job to claim next. A lane is what one submitter has waiting in one priority; its head is the oldest job of it that
/// may start and fits. Of the heads the one of the highest priority is next; of those, one whose submitter has the fewest
/// jobs running; of those, the oldest, so that a job that was interrupted comes before younger ones.
///
/// Lanes are found one after the other in the index `jobs_by_turn`: the cost grows with their number, and not with that of
/// the jobs. A job that was not put off starts whatever the time: the clock may have been set back since it was queued. So
/// a job is queued again with a `run_after` that is not later than `queued_at` unless it is put off.
const PICK: &str = "\
with recursive lane as ( \
select priority, submitter from jobs where id = ( \
select id from jobs where state = 'queued' order by priority desc, submitter, id limit 1) \
union all \
select next.priority, next.submitter from lane join jobs as next on next.id = coalesce(( \
select id from jobs where state = 'queued' and priority = lane.priority and submitter > lane.submitter \
order by submitter, id limit 1), ( \
select id from jobs where state = 'queued' and priority < lane.priority \
order by priority desc, submitter, id limit 1)) \
), head as ( \
select priority, submitter, ( \
select id from jobs where state = 'queued' and priority = lane.priority and submitter = lane.submitter \
and (run_after <= $2 or run_after <= queued_at) and (deadline_at is null or deadline_at > $2) \
and (device_kind is null or device_kind = $3) and spec_version <= $5 \
and (disk_bytes is null or $6 is null or disk_bytes <= $6) \
and (memory_bytes is null or $4 is null or memory_bytes <= $4 - ( \
select coalesce(sum(memory_bytes), 0) from jobs \
where state in ('running', 'pausing', 'cancelling') and lease_owner = $1)) \
order by id limit 1) as id from lane \
) \
select head.id from head left join ( \
select submitter, count(*) as jobs from jobs where state in ('running', 'pausing', 'cancelling') group by submitter \
) as held on held.submitter = head.submitter \
where head.id is not null order by head.priority desc, coalesce(held.jobs, 0), head.id limit 1";

const CLAIM: &str = concat!(
    "\
update jobs set state = 'running', attempt = attempt + 1, lease_owner = $1, lease_expires_at = $2, \
phase = null, error = null, started_at = coalesce(started_at, $3), updated_at = $3, \
version = version + 1 \
where id = $4 and state = 'queued' \
returning ",
    job_columns!()
);

const CHECK: &str = "\
select state from jobs \
where id = $1 and attempt = $2 and lease_owner = $3 and state in ('running', 'pausing', 'cancelling')";

const RENEW: &str = "\
update jobs set lease_expires_at = $4 \
where id = $1 and attempt = $2 and lease_owner = $3 and state in ('running', 'pausing', 'cancelling') \
returning state";

const REPORT: &str = "\
update jobs set phase = coalesce($4, phase), progress = coalesce($5, progress), commits = coalesce($7, commits), \
updated_at = $6, version = version + case when $7 is null then 0 else 1 end \
where id = $1 and attempt = $2 and lease_owner = $3 and state in ('running', 'pausing', 'cancelling') \
returning state";

/// What disk the job was submitted with is not asked for again: the weights may lie copied in its scratch directory.
const FINISH: &str = "\
update jobs set state = $4, failed_attempts = failed_attempts + $5, crash_count = crash_count + $6, \
run_after = coalesce($7, case when run_after > $11 then $11 else run_after end), \
queued_at = case when $4 = 'queued' then $11 else queued_at end, error = $8, outcome = $9, finished_at = $10, \
updated_at = $11, phase = case when $4 = 'failed' then phase end, lease_owner = null, lease_expires_at = null, \
disk_bytes = $13, artifact_bytes = coalesce($14, artifact_bytes), memory_bytes = coalesce($15, memory_bytes), \
version = version + 1 \
where id = $1 and attempt = $2 and lease_owner = $3 and state in ('running', 'pausing', 'cancelling') \
and ($12 is null or lease_expires_at = $12)";

const LIST: &str = "\
select id, attempt, lease_owner, lease_expires_at, phase, failed_attempts, max_attempts from jobs \
where state in ('running', 'pausing', 'cancelling') order by id";

impl LeaseStore for Database {
    fn claim_next_job<'a>(&'a self, claim: &'a Claim) -> StoreFuture<'a, Option<Job>> {
        Connections::bounded(async move {
            // Idle workers ask all the time, and must not keep others from writing.
            if !self.has_work(claim).await? {
                return Ok(None);
            }
            // A transaction for each damaged job: however many there are, some are out of the way.
            loop {
                let mut writing = Writing::begin(self).await?;
                let (transaction, now) = (&mut writing.transaction, writing.now);
                let claimed = claim_next(transaction, claim, now).await?;
                writing.commit("claim a job").await?;
                match claimed {
                    Claimed::Job(job) => return Ok(Some(*job)),
                    Claimed::Nothing => return Ok(None),
                    Claimed::Damaged => {}
                }
            }
        })
    }

    fn check_lease<'a>(&'a self, lease: &'a Lease) -> StoreFuture<'a, LeaseCheck> {
        Connections::bounded(async move {
            let state = sqlx::query(CHECK)
                .bind(lease.job_id.to_string())
                .bind(i64::from(lease.attempt))
                .bind(&lease.owner)
                .fetch_optional(self.connections.readers())
                .await
                .map_err(failed("look up a lease"))?;
            lease_check(state.as_ref())
        })
    }

    fn heartbeat<'a>(
        &'a self,
        lease: &'a Lease,
        duration: Duration,
    ) -> StoreFuture<'a, LeaseCheck> {
        Connections::bounded(async move {
            let mut writing = Writing::begin(self).await?;
            let state = sqlx::query(RENEW)
                .bind(lease.job_id.to_string())
                .bind(i64::from(lease.attempt))
                .bind(&lease.owner)
                .bind((writing.now + duration).as_millisecond())
                .fetch_optional(&mut *writing.transaction)
                .await
                .map_err(failed("renew a lease"))?;
            let check = lease_check(state.as_ref())?;
            writing.commit("renew a lease").await?;
            Ok(check)
        })
    }

    fn report<'a>(&'a self, lease: &'a Lease, report: &'a Report) -> StoreFuture<'a, LeaseCheck> {
        Connections::bounded(async move {
            let mut writing = Writing::begin(self).await?;
            let (transaction, now) = (&mut writing.transaction, writing.now);
            let check = write_report(transaction, lease, report, now).await?;
            writing.commit("store progress").await?;
            Ok(check)
        })
    }

    fn finish<'a>(
        &'a self,
        lease: &'a Lease,
        end: &'a AttemptEnd,
        unless_renewed: Option<Timestamp>,
    ) -> StoreFuture<'a, Option<Settled>> {
        Connections::bounded(async move {
            let mut writing = Writing::begin(self).await?;
            let (transaction, now) = (&mut writing.transaction, writing.now);
            let settled = finish(transaction, lease, end, unless_renewed, now).await?;
            writing.commit("finish an attempt").await?;
            Ok(settled)
        })
    }

    fn list_leases(&self) -> StoreFuture<'_, Vec<LeaseInfo>> {
        Connections::bounded(async move {
            let mut reading = Reading::begin(self).await?;
            let rows = sqlx::query(LIST)
                .fetch_all(&mut *reading.transaction)
                .await
                .map_err(failed("list leases"))?;
            let now = reading.now;
            reading.end().await?;
            Ok(readable(&rows, |row| lease_info(row, now)))
        })
    }
}

impl Database {
    /// Whether a job waits for such a worker; asked without a lock.
    async fn has_work(&self, claim: &Claim) -> Result<bool, StoreError> {
        let mut reading = Reading::begin(self).await?;
        let found = pick(&mut reading.transaction, claim, reading.now).await?;
        reading.end().await?;
        Ok(found.is_some())
    }
}

/// What one look at the queue brings.
enum Claimed {
    Job(Box<Job>),
    /// A job was failed, as its row cannot be read.
    Damaged,
    Nothing,
}

async fn claim_next(
    connection: &mut Connection,
    claim: &Claim,
    now: Timestamp,
) -> Result<Claimed, StoreError> {
    if !may_claim(connection, &claim.worker_id).await? {
        return Ok(Claimed::Nothing);
    }
    // A newer version may write what this one would not understand.
    schema_is_known(connection).await?;
    while let Some(id) = pick(connection, claim, now).await? {
        let claimed = sqlx::query(CLAIM)
            .bind(&claim.worker_id)
            .bind((now + claim.lease).as_millisecond())
            .bind(now.as_millisecond())
            .bind(id)
            .fetch_optional(&mut *connection)
            .await
            .map_err(failed("claim a job"))?;
        // A client has changed its state meanwhile.
        let Some(row) = claimed else { continue };
        let (job_id, columns) = keyed(&row)?;
        let lease = Lease {
            job_id,
            attempt: columns.count("attempt")?,
            owner: claim.worker_id.clone(),
        };
        attempts::insert(connection, &lease, claim, now).await?;
        let started = EventKind::Started {
            worker_id: claim.worker_id.clone(),
            device: claim.device.name.clone(),
        };
        events::append(connection, job_id, lease.attempt, &started, now).await?;
        let problem = match job(&row) {
            Ok(job) => match job.spec {
                StoredSpec::Known(_) => return Ok(Claimed::Job(Box::new(job))),
                StoredSpec::Unreadable { problem, .. } => problem,
            },
            Err(error) => error.to_string(),
        };
        end_damaged(connection, &lease, &problem, now).await?;
        return Ok(Claimed::Damaged);
    }
    Ok(Claimed::Nothing)
}

/// Finds the job to claim next.
async fn pick(
    connection: &mut Connection,
    claim: &Claim,
    now: Timestamp,
) -> Result<Option<String>, StoreError> {
    let found = sqlx::query(PICK)
        .bind(&claim.worker_id)
        .bind(now.as_millisecond())
        .bind(claim.device.kind.as_str())
        .bind(claim.device.memory_bytes.map(signed))
        .bind(i64::from(SPEC_VERSION))
        .bind(claim.free_disk_bytes.map(signed))
        .fetch_optional(connection)
        .await
        .map_err(failed("find the next job"))?;
    found
        .map(|row| Columns::new(&row, "jobs").get("id"))
        .transpose()
}

/// Fails a job whose stored spec cannot be read; no worker of this version ever could.
async fn end_damaged(
    connection: &mut Connection,
    lease: &Lease,
    problem: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    tracing::error!(problem, job.id = %lease.job_id, "a stored job cannot be read, it fails");
    let message = format!("the stored job cannot be read by this version: {problem}");
    let failure = AttemptFailure::new(ErrorCode::Internal, message, None);
    let attempt = lease.attempt;
    let error = JobError { failure, attempt };
    let end = AttemptEnd::Failed {
        error,
        crashed: false,
    };
    finish(connection, lease, &end, None, now).await?;
    Ok(())
}

/// Reads the state that a fenced statement returned, if it did.
fn lease_check(row: Option<&Row>) -> Result<LeaseCheck, StoreError> {
    let Some(row) = row else {
        return Ok(LeaseCheck::Lost);
    };
    match Columns::new(row, "jobs").word("state")? {
        JobState::Running => Ok(LeaseCheck::Valid),
        JobState::Pausing => Ok(LeaseCheck::PauseRequested),
        JobState::Cancelling => Ok(LeaseCheck::CancelRequested),
        // No worker holds a job in these.
        JobState::Queued
        | JobState::Succeeded
        | JobState::Failed
        | JobState::Paused
        | JobState::Cancelled => Ok(LeaseCheck::Lost),
    }
}

async fn write_report(
    connection: &mut Connection,
    lease: &Lease,
    report: &Report,
    now: Timestamp,
) -> Result<LeaseCheck, StoreError> {
    let commits = match report {
        Report::Pinned(commits) => Some(to_json(commits)),
        _ => None,
    };
    let progress = |overall: &Overall, step| Progress {
        overall: *overall,
        step,
        updated_at: now,
    };
    let (phase, progress, event) = match report {
        Report::Phase(phase, overall) => {
            let event = EventKind::Phase { phase: *phase };
            (Some(*phase), Some(progress(overall, None)), Some(event))
        }
        Report::Step(step, overall) => (None, Some(progress(overall, Some(step.clone()))), None),
        Report::Pinned(_) | Report::LogTail(_) => (None, None, None),
        Report::Resumed { block, blocks } => {
            let (block, blocks) = (*block, *blocks);
            (None, None, Some(EventKind::Resumed { block, blocks }))
        }
    };
    let row = sqlx::query(REPORT)
        .bind(lease.job_id.to_string())
        .bind(i64::from(lease.attempt))
        .bind(&lease.owner)
        .bind(phase.map(Phase::as_str))
        .bind(progress.as_ref().map(to_json))
        .bind(now.as_millisecond())
        .bind(commits)
        .fetch_optional(&mut *connection)
        .await
        .map_err(failed("store progress"))?;
    let check = lease_check(row.as_ref())?;
    if let Report::LogTail(tail) = report
        && check != LeaseCheck::Lost
    {
        attempts::set_log_tail(connection, lease, tail).await?;
    }
    if let Some(kind) = event.filter(|_| check != LeaseCheck::Lost) {
        events::append(connection, lease.job_id, lease.attempt, &kind, now).await?;
    }
    Ok(check)
}

async fn finish(
    connection: &mut Connection,
    lease: &Lease,
    end: &AttemptEnd,
    unless_renewed: Option<Timestamp>,
    now: Timestamp,
) -> Result<Option<Settled>, StoreError> {
    let Some(locked) = actions::lock_row(connection, lease.job_id).await? else {
        return Ok(None);
    };
    let (_, columns) = keyed(&locked)?;
    let Some(settled) = end.settle(columns.word("state")?, now) else {
        return Ok(None);
    };
    let publication = match end {
        AttemptEnd::Succeeded(publication) => Some(publication),
        _ => None,
    };
    let written = sqlx::query(FINISH)
        .bind(lease.job_id.to_string())
        .bind(i64::from(lease.attempt))
        .bind(&lease.owner)
        .bind(settled.state.as_str())
        .bind(i64::from(settled.counts))
        .bind(i64::from(settled.crashed))
        .bind(settled.run_after.map(Timestamp::as_millisecond))
        .bind(settled.error.as_ref().map(to_json))
        .bind(publication.map(|publication| to_json(&publication.outcome())))
        .bind(settled.state.is_terminal().then(|| now.as_millisecond()))
        .bind(now.as_millisecond())
        .bind(unless_renewed.map(Timestamp::as_millisecond))
        .bind(settled.lacks.disk_bytes.map(signed))
        .bind(publication.map(|publication| signed(publication.size_bytes())))
        .bind(settled.lacks.memory_bytes.map(signed))
        .execute(&mut *connection)
        .await
        .map_err(failed("finish an attempt"))?;
    if written.rows_affected() == 0 {
        return Ok(None);
    }
    if let Some(publication) = publication {
        attempts::publish(connection, lease.job_id, publication).await?;
    }
    attempts::close(connection, lease, &settled, now).await?;
    events::append(connection, lease.job_id, lease.attempt, &settled.event, now).await?;
    Ok(Some(settled))
}

fn lease_info(row: &Row, now: Timestamp) -> Result<LeaseInfo, StoreError> {
    let (job_id, columns) = keyed(row)?;
    let expires_at = columns.time("lease_expires_at")?;
    Ok(LeaseInfo {
        lease: Lease {
            job_id,
            attempt: columns.count("attempt")?,
            owner: columns.get("lease_owner")?,
        },
        expires_at,
        is_over: expires_at <= now,
        // A phase that only a newer version knows keeps no lease alive.
        phase: columns.optional_word("phase").unwrap_or_default(),
        budget: Budget {
            failed: columns.count("failed_attempts")?,
            max: columns.count("max_attempts")?,
        },
    })
}
