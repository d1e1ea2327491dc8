//! The tables `jobs` and `job_sources`.

mod list;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use super::actions::lock_row;
use super::columns::{Columns, keyed, milliseconds, signed, to_json};
use super::{Connection, Connections, Database, Row, Writing, attempts, events};
use crate::domain::JobId;
use crate::domain::job::event::{Attempt, EventKind};
use crate::domain::job::scheduling::{DeviceKind, Scheduling};
use crate::domain::job::state::JobState;
use crate::domain::job::{Job, JobFilter, Publication};
use crate::domain::spec::{JobSpec, StoredSpec};
use crate::store::{JobStatus, JobStore, StoreError, StoreFuture, failed};

/// The columns that are read. By name: a newer version may add one while this one runs, and a statement that was prepared
/// with `*` would then fail on PostgreSQL.
macro_rules! job_columns {
    () => {
        "id, name, metadata, type, spec, spec_version, state, phase, progress, attempt, failed_attempts, crash_count, max_attempts, \
         run_after, commits, fingerprint, priority, submitter, device_kind, memory_bytes, disk_bytes, work, deadline_after, deadline_at, queued_at, traceparent, \
         lease_owner, lease_expires_at, error, cancellation, outcome, kept, created_at, started_at, finished_at, updated_at, version"
    };
}
pub(super) use job_columns;

const INSERT: &str = "\
insert into jobs (id, name, metadata, type, spec, model_id, method, state, attempt, failed_attempts, crash_count, \
max_attempts, run_after, created_at, updated_at, version, priority, submitter, device_kind, memory_bytes, \
deadline_after, deadline_at, queued_at, traceparent, spec_version, disk_bytes, commits, work, fingerprint) \
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29)";

const LOOKUP: &str = concat!("select ", job_columns!(), " from jobs where id = $1");

const INSERT_SOURCE: &str = "insert into job_sources (source_id, job_id) values ($1, $2)";

const FIND_EQUAL: &str = "\
select id from jobs where fingerprint = $1 \
and state in ('queued', 'running', 'pausing', 'paused', 'succeeded') \
order by case when state = 'succeeded' then 0 else 1 end, id desc limit 1";

const LIST_STATUSES: &str = concat!(
    "select id, state, attempt from jobs where id ",
    any_of!("$1")
);

const COUNT: &str = "select state, count(*) as jobs from jobs group by state";

const SUM_ARTIFACTS: &str = "select cast(coalesce(sum(artifact_bytes), 0) as bigint) as bytes from jobs where artifact_bytes > 0";

const COUNT_QUEUED: &str = "\
select count(*) as jobs from (select 1 as one from jobs where state = 'queued' limit $1) as waiting";

impl JobStore for Database {
    fn insert_job<'a>(&'a self, job: &'a Job) -> StoreFuture<'a, Job> {
        Connections::bounded(async move {
            let mut writing = Writing::begin(self).await?;
            let job = job.clone().accepted_at(writing.now);
            insert(&mut writing.transaction, &job).await?;
            writing.commit("store a job").await?;
            Ok(job)
        })
    }

    fn lookup_job(&self, id: JobId) -> StoreFuture<'_, Option<Job>> {
        Connections::bounded(async move {
            let found = sqlx::query(LOOKUP)
                .bind(id.to_string())
                .fetch_optional(self.connections.readers())
                .await
                .map_err(failed("look up a job"))?;
            found.as_ref().map(job).transpose()
        })
    }

    fn lookup_job_with_attempts(&self, id: JobId) -> StoreFuture<'_, Option<(Job, Vec<Attempt>)>> {
        Connections::bounded(async move {
            let mut transaction = self.connections.snapshot().await?;
            let found = with_attempts(&mut transaction, id).await?;
            transaction.commit().await.map_err(failed("end a read"))?;
            Ok(found)
        })
    }

    fn lookup_publication(&self, id: JobId) -> StoreFuture<'_, Option<Publication>> {
        Connections::bounded(attempts::lookup_publication(self.connections.readers(), id))
    }

    fn list_jobs<'a>(
        &'a self,
        filter: &'a JobFilter,
        before: Option<JobId>,
        limit: u32,
    ) -> StoreFuture<'a, Vec<Job>> {
        Connections::bounded(list::list(
            self.connections.readers(),
            filter,
            before,
            limit,
        ))
    }

    fn list_statuses<'a>(
        &'a self,
        ids: &'a [JobId],
    ) -> StoreFuture<'a, BTreeMap<JobId, JobStatus>> {
        Connections::bounded(async move {
            let rows = sqlx::query(LIST_STATUSES)
                .bind(to_json(&ids))
                .fetch_all(self.connections.readers())
                .await
                .map_err(failed("look up jobs"))?;
            let status = |row| {
                let (id, columns) = keyed(row)?;
                let state = columns.word("state")?;
                let attempt = columns.count("attempt")?;
                Ok((id, JobStatus { state, attempt }))
            };
            rows.iter().map(status).collect()
        })
    }

    fn count_jobs(&self) -> StoreFuture<'_, BTreeMap<JobState, u64>> {
        Connections::bounded(async move {
            let rows = sqlx::query(COUNT)
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

    fn sum_artifact_bytes(&self) -> StoreFuture<'_, u64> {
        Connections::bounded(async move {
            let row = sqlx::query(SUM_ARTIFACTS)
                .fetch_one(self.connections.readers())
                .await
                .map_err(failed("sum up the artifacts"))?;
            Columns::new(&row, "artifacts").count("bytes")
        })
    }

    fn count_queued(&self, most: u32) -> StoreFuture<'_, u32> {
        Connections::bounded(async move {
            let row = sqlx::query(COUNT_QUEUED)
                .bind(i64::from(most))
                .fetch_one(self.connections.readers())
                .await
                .map_err(failed("count queued jobs"))?;
            Columns::new(&row, "queued jobs").count("jobs")
        })
    }
}

/// Inserts a queued job. The jobs whose artifacts it works on stay locked until it is visible: their deletion looks for
/// jobs like it.
pub(super) async fn insert(connection: &mut Connection, job: &Job) -> Result<(), StoreError> {
    let sources = job.spec.source_jobs();
    let sources: BTreeSet<_> = sources.into_iter().map(|(_, id)| id).collect();
    for source in &sources {
        if lock_row(connection, *source).await?.is_none() {
            return Err(StoreError::SourceGone(*source));
        }
    }
    let (spec, scheduling) = (job.spec.known(), &job.scheduling);
    sqlx::query(INSERT)
        .bind(job.id.to_string())
        .bind(job.name.as_deref())
        .bind(to_json(&job.metadata))
        .bind(job.spec.job_type())
        .bind(to_json(&job.spec))
        .bind(spec.map_or_else(Cow::default, |spec| spec.model().id()))
        .bind(
            spec.and_then(JobSpec::method)
                .map_or("", |method| method.name()),
        )
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
        .bind(i64::from(job.spec_version))
        .bind(scheduling.disk_bytes.map(signed))
        .bind(to_json(&job.commits))
        .bind(scheduling.work.map(signed))
        .bind(job.fingerprint.as_deref())
        .execute(&mut *connection)
        .await
        .map_err(failed("store a job"))?;
    for source in sources {
        sqlx::query(INSERT_SOURCE)
            .bind(source.to_string())
            .bind(job.id.to_string())
            .execute(&mut *connection)
            .await
            .map_err(failed("store a source"))?;
    }
    let (id, attempt, at) = (job.id, job.attempt, job.created_at);
    events::append(connection, id, attempt, &EventKind::Queued, at).await
}

/// The newest job that has done the same work, or else the newest that does it.
pub(super) async fn find_equal(
    connection: &mut Connection,
    fingerprint: &str,
) -> Result<Option<JobId>, StoreError> {
    let found = sqlx::query(FIND_EQUAL)
        .bind(fingerprint)
        .fetch_optional(connection)
        .await
        .map_err(failed("find the same work"))?;
    let id = found.as_ref().map(|row| Ok(keyed(row)?.0));
    id.transpose()
}

/// Reads a job and its attempts, within a transaction.
pub(super) async fn with_attempts(
    connection: &mut Connection,
    id: JobId,
) -> Result<Option<(Job, Vec<Attempt>)>, StoreError> {
    let found = sqlx::query(LOOKUP)
        .bind(id.to_string())
        .fetch_optional(&mut *connection)
        .await
        .map_err(failed("look up a job"))?;
    let Some(job) = found.as_ref().map(job).transpose()? else {
        return Ok(None);
    };
    Ok(Some((job, attempts::list(connection, id).await?)))
}

/// Reads a row. What a newer version has written into columns that no change of the job depends on counts as nothing.
pub(super) fn job(row: &Row) -> Result<Job, StoreError> {
    let (id, columns) = keyed(row)?;
    let spec_version = columns.count("spec_version")?;
    Ok(Job {
        id,
        name: columns.get("name")?,
        metadata: columns.json("metadata").unwrap_or_default(),
        spec: StoredSpec::read(columns.get("type")?, spec_version, columns.get("spec")?),
        spec_version,
        state: columns.word("state")?,
        phase: columns.optional_word("phase").unwrap_or_default(),
        progress: columns.optional_json("progress").unwrap_or_default(),
        attempt: columns.count("attempt")?,
        failed_attempts: columns.count("failed_attempts")?,
        crash_count: columns.count("crash_count")?,
        max_attempts: columns.count("max_attempts")?,
        run_after: columns.time("run_after")?,
        commits: columns.json("commits").unwrap_or_default(),
        fingerprint: columns.get("fingerprint")?,
        scheduling: Scheduling {
            priority: columns.count("priority")?,
            submitter: columns.get("submitter")?,
            device_kind: columns.optional_word("device_kind").unwrap_or_default(),
            memory_bytes: columns.optional_count("memory_bytes")?,
            disk_bytes: columns.optional_count("disk_bytes")?,
            work: columns.optional_count("work")?,
            deadline_after: columns
                .optional_count("deadline_after")?
                .map(Duration::from_millis),
            deadline_at: columns.optional_time("deadline_at")?,
        },
        queued_at: columns.time("queued_at")?,
        traceparent: columns.get("traceparent")?,
        lease_owner: columns.get("lease_owner")?,
        lease_expires_at: columns.optional_time("lease_expires_at")?,
        error: columns.optional_json("error").unwrap_or_default(),
        cancellation: columns.optional_json("cancellation").unwrap_or_default(),
        outcome: columns.optional_json("outcome").unwrap_or_default(),
        kept: columns.get("kept")?,
        created_at: columns.time("created_at")?,
        started_at: columns.optional_time("started_at")?,
        finished_at: columns.optional_time("finished_at")?,
        updated_at: columns.time("updated_at")?,
        version: columns.count("version")?,
    })
}
