//! Reads of more than one statement, and of rows that may be unreadable.

use jiff::Timestamp;
use sqlx::Row as _;

use super::row::{self, to_json};
use super::{Connection, Pool, Row, dialect, signed, sql};
use crate::domain::JobId;
use crate::domain::job::event::Attempt;
use crate::domain::job::{Job, JobFilter};
use crate::store::{StoreError, failed};

/// The rows that can be read. One that cannot is logged and left out: it must not hide the others.
pub(super) fn readable<T>(rows: &[Row], read: impl Fn(&Row) -> Result<T, StoreError>) -> Vec<T> {
    let read = rows.iter().filter_map(|row| match read(row) {
        Ok(value) => Some(value),
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, "a stored row is left out");
            None
        }
    });
    read.collect()
}

/// To be called within a transaction.
pub(super) async fn job_with_attempts(
    connection: &mut Connection,
    id: JobId,
) -> Result<Option<(Job, Vec<Attempt>)>, StoreError> {
    let found = sqlx::query(sql::LOOKUP_JOB)
        .bind(id.to_string())
        .fetch_optional(&mut *connection)
        .await
        .map_err(failed("look up a job"))?;
    let Some(job) = found.as_ref().map(row::job).transpose()? else {
        return Ok(None);
    };
    Ok(Some((job, attempts(connection, id).await?)))
}

async fn attempts(connection: &mut Connection, id: JobId) -> Result<Vec<Attempt>, StoreError> {
    let rows = sqlx::query(sql::LIST_ATTEMPTS)
        .bind(id.to_string())
        .fetch_all(connection)
        .await
        .map_err(failed("list attempts"))?;
    rows.iter().map(row::attempt).collect()
}

/// Reads on until the page is full, whatever was left out of it.
pub(super) async fn list_jobs(
    pool: &Pool,
    filter: &JobFilter,
    before: Option<JobId>,
    limit: u32,
) -> Result<Vec<Job>, StoreError> {
    // No stored word has this character, and PostgreSQL takes no text that has it.
    if [&filter.model, &filter.method, &filter.submitter]
        .into_iter()
        .flatten()
        .any(|word| word.contains('\0'))
    {
        return Ok(Vec::new());
    }
    let states = (!filter.states.is_empty()).then(|| to_json(&filter.states));
    let types = (!filter.types.is_empty()).then(|| to_json(&filter.types));
    let mut before = before.map(|id| id.to_string());
    let mut jobs = Vec::new();
    loop {
        let missing = limit as usize - jobs.len();
        let rows = sqlx::query(dialect::LIST_JOBS)
            .bind(&before)
            .bind(&states)
            .bind(filter.model.as_deref())
            .bind(filter.method.as_deref())
            .bind(filter.created_after.map(Timestamp::as_millisecond))
            .bind(filter.created_before.map(Timestamp::as_millisecond))
            .bind(&types)
            .bind(filter.submitter.as_deref())
            .bind(signed(missing as u64))
            .fetch_all(pool)
            .await
            .map_err(failed("list jobs"))?;
        jobs.extend(readable(&rows, row::job));
        let Some(last) = rows.last().filter(|_| rows.len() == missing) else {
            return Ok(jobs);
        };
        if jobs.len() == limit as usize {
            return Ok(jobs);
        }
        before = Some(last.try_get("id").map_err(failed("list jobs"))?);
    }
}
