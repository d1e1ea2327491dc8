//! The tables `attempts` and `publications`: what attempts did and left.

use jiff::Timestamp;

use super::columns::{Columns, to_json};
use super::{Connection, Pool};
use crate::domain::JobId;
use crate::domain::job::Publication;
use crate::domain::job::attempt_end::Settled;
use crate::domain::job::event::Attempt;
use crate::domain::report::manifest::JobReport;
use crate::domain::spec::JobType;
use crate::store::{Claim, Lease, StoreError, failed};

const INSERT: &str = "\
insert into attempts (job_id, attempt, worker_id, device, started_at, host) \
values ($1, $2, $3, $4, $5, (select host from workers where id = $3))";

const SET_LOG_TAIL: &str = "update attempts set log_tail = $3 where job_id = $1 and attempt = $2";

const CLOSE: &str = "update attempts set finished_at = $3, outcome = $4, error = $5 where job_id = $1 and attempt = $2";

const LIST: &str = "\
select attempt, worker_id, host, device, started_at, finished_at, outcome, error, log_tail from ( \
select * from attempts where job_id = $1 order by attempt desc limit $2) as newest order by attempt";

/// One that waits for something has an attempt every five minutes.
const SHOWN_ATTEMPTS: i64 = 50;

const PUBLISH: &str =
    "insert into publications (job_id, attempt, manifest, files) values ($1, $2, $3, $4)";

const LOOKUP_PUBLICATION: &str = "\
select publications.attempt, manifest, files, type \
from publications join jobs on jobs.id = publications.job_id where job_id = $1";

/// Opens the record of an attempt.
pub(super) async fn insert(
    connection: &mut Connection,
    lease: &Lease,
    claim: &Claim,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(INSERT)
        .bind(lease.job_id.to_string())
        .bind(i64::from(lease.attempt))
        .bind(&claim.worker_id)
        .bind(&claim.device.name)
        .bind(now.as_millisecond())
        .execute(connection)
        .await
        .map_err(failed("store an attempt"))?;
    Ok(())
}

/// Notes the end of the log of an attempt.
pub(super) async fn set_log_tail(
    connection: &mut Connection,
    lease: &Lease,
    tail: &str,
) -> Result<(), StoreError> {
    sqlx::query(SET_LOG_TAIL)
        .bind(lease.job_id.to_string())
        .bind(i64::from(lease.attempt))
        .bind(tail)
        .execute(connection)
        .await
        .map_err(failed("store the end of a log"))?;
    Ok(())
}

/// Closes the record of an attempt.
pub(super) async fn close(
    connection: &mut Connection,
    lease: &Lease,
    settled: &Settled,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(CLOSE)
        .bind(lease.job_id.to_string())
        .bind(i64::from(lease.attempt))
        .bind(now.as_millisecond())
        .bind(settled.outcome.as_str())
        .bind(settled.error.as_ref().map(to_json))
        .execute(connection)
        .await
        .map_err(failed("close an attempt"))?;
    Ok(())
}

/// Lists the newest attempts of a job, oldest first.
pub(super) async fn list(
    connection: &mut Connection,
    id: JobId,
) -> Result<Vec<Attempt>, StoreError> {
    let rows = sqlx::query(LIST)
        .bind(id.to_string())
        .bind(SHOWN_ATTEMPTS)
        .fetch_all(connection)
        .await
        .map_err(failed("list attempts"))?;
    let attempt = |row| {
        let columns = Columns::new(row, "attempts");
        Ok(Attempt {
            attempt: columns.count("attempt")?,
            worker_id: columns.get("worker_id")?,
            host: columns.get("host")?,
            device: columns.get("device")?,
            started_at: columns.time("started_at")?,
            finished_at: columns.optional_time("finished_at")?,
            outcome: columns.optional_word("outcome").unwrap_or_default(),
            error: columns.optional_json("error").unwrap_or_default(),
            log_tail: columns.get("log_tail")?,
        })
    };
    rows.iter().map(attempt).collect()
}

/// Stores the result of a succeeded attempt.
pub(super) async fn publish(
    connection: &mut Connection,
    id: JobId,
    publication: &Publication,
) -> Result<(), StoreError> {
    sqlx::query(PUBLISH)
        .bind(id.to_string())
        .bind(i64::from(publication.attempt))
        .bind(match &publication.report {
            JobReport::Prune(manifest) => to_json(manifest),
            JobReport::Evaluate(report) => to_json(report),
        })
        .bind(to_json(&publication.files))
        .execute(connection)
        .await
        .map_err(failed("store a report"))?;
    Ok(())
}

pub(super) async fn lookup_publication(
    pool: &Pool,
    id: JobId,
) -> Result<Option<Publication>, StoreError> {
    let found = sqlx::query(LOOKUP_PUBLICATION)
        .bind(id.to_string())
        .fetch_optional(pool)
        .await
        .map_err(failed("look up a publication"))?;
    let Some(row) = found else { return Ok(None) };
    let columns = Columns::new(&row, "publications");
    Ok(Some(Publication {
        attempt: columns.count("attempt")?,
        report: match columns.word("type")? {
            JobType::Prune => JobReport::Prune(columns.json("manifest")?),
            JobType::Evaluate => JobReport::Evaluate(columns.json("manifest")?),
        },
        files: columns.json("files")?,
    }))
}
