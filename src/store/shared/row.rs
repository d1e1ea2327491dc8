//! Rows to words and back.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::{ColumnIndex, Decode, Row as _, Type};

use super::{Driver, Row};
use crate::domain::JobId;
use crate::domain::job::event::{Attempt, Event, Numbered};
use crate::domain::job::scheduling::Scheduling;
use crate::domain::job::state::JobState;
use crate::domain::job::{Job, Publication};
use crate::domain::queue::{Group, Needs, SubmitterLoad};
use crate::domain::report::manifest::JobReport;
use crate::domain::spec::{JobSpec, JobType};
use crate::domain::worker::{Worker, WorkerProfile};
use crate::store::{JobStatus, Lease, LeaseInfo, StoreError};

/// A row, and how to name it when a column cannot be read.
pub(super) struct Columns<'r> {
    row: &'r Row,
    key: String,
}

impl<'r> Columns<'r> {
    pub(super) fn new(row: &'r Row, table: &str) -> Self {
        Self {
            row,
            key: format!("a row of {table}"),
        }
    }

    pub(super) fn get<T>(&self, column: &'static str) -> Result<T, StoreError>
    where
        T: Decode<'r, Driver> + Type<Driver>,
        &'static str: ColumnIndex<Row>,
    {
        self.row
            .try_get(column)
            .map_err(|source| self.inconsistent(column, source))
    }

    /// A count that is stored as a signed integer.
    pub(super) fn count<T: TryFrom<i64>>(&self, column: &'static str) -> Result<T, StoreError>
    where
        T::Error: std::error::Error + Send + Sync + 'static,
    {
        T::try_from(self.get(column)?).map_err(|source| self.inconsistent(column, source))
    }

    /// The same where there may be none.
    pub(super) fn optional_count<T: TryFrom<i64>>(
        &self,
        column: &'static str,
    ) -> Result<Option<T>, StoreError>
    where
        T::Error: std::error::Error + Send + Sync + 'static,
    {
        let count: Option<i64> = self.get(column)?;
        count
            .map(T::try_from)
            .transpose()
            .map_err(|source| self.inconsistent(column, source))
    }

    pub(super) fn time(&self, column: &'static str) -> Result<Timestamp, StoreError> {
        Timestamp::from_millisecond(self.get(column)?)
            .map_err(|source| self.inconsistent(column, source))
    }

    pub(super) fn optional_time(
        &self,
        column: &'static str,
    ) -> Result<Option<Timestamp>, StoreError> {
        let millis: Option<i64> = self.get(column)?;
        millis
            .map(Timestamp::from_millisecond)
            .transpose()
            .map_err(|source| self.inconsistent(column, source))
    }

    pub(super) fn json<T: DeserializeOwned>(&self, column: &'static str) -> Result<T, StoreError> {
        serde_json::from_str(self.get(column)?).map_err(|source| self.inconsistent(column, source))
    }

    fn optional_json<T: DeserializeOwned>(
        &self,
        column: &'static str,
    ) -> Result<Option<T>, StoreError> {
        let text: Option<&str> = self.get(column)?;
        text.map(serde_json::from_str)
            .transpose()
            .map_err(|source| self.inconsistent(column, source))
    }

    pub(super) fn optional_word<T: DeserializeOwned>(
        &self,
        column: &'static str,
    ) -> Result<Option<T>, StoreError> {
        let word: Option<String> = self.get(column)?;
        let value = word.map(|word| serde_json::from_value(serde_json::Value::String(word)));
        value
            .transpose()
            .map_err(|source| self.inconsistent(column, source))
    }

    /// A value that is stored as its own word.
    pub(super) fn word<T: std::str::FromStr<Err = String>>(
        &self,
        column: &'static str,
    ) -> Result<T, StoreError> {
        self.get::<&str>(column)?
            .parse()
            .map_err(|message: String| self.inconsistent(column, message))
    }

    fn inconsistent(
        &self,
        column: &'static str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> StoreError {
        StoreError::Inconsistent {
            column,
            row: self.key.clone(),
            source: source.into(),
        }
    }
}

/// A row of jobs, and which one.
pub(super) fn keyed(row: &Row) -> Result<(JobId, Columns<'_>), StoreError> {
    let mut columns = Columns::new(row, "jobs");
    let id: JobId = columns.word("id")?;
    columns.key = id.to_string();
    Ok((id, columns))
}

pub(super) fn leased(row: &Row, now: Timestamp) -> Result<LeaseInfo, StoreError> {
    let (job_id, columns) = keyed(row)?;
    let failed_attempts: u32 = columns.count("failed_attempts")?;
    let max_attempts: u32 = columns.count("max_attempts")?;
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
        is_last_attempt: failed_attempts + 1 >= max_attempts,
    })
}

pub(super) fn status(row: &Row) -> Result<(JobId, JobStatus), StoreError> {
    let (id, columns) = keyed(row)?;
    let status = JobStatus {
        state: columns.word("state")?,
        attempt: columns.count("attempt")?,
    };
    Ok((id, status))
}

/// What a change that no worker makes depends on and changes, in the columns that every version of the program can read.
#[derive(Clone)]
pub(super) struct Core {
    pub(super) id: JobId,
    pub(super) state: JobState,
    pub(super) attempt: u32,
    pub(super) version: u64,
    pub(super) failed_attempts: u32,
    pub(super) crash_count: u32,
    pub(super) run_after: Timestamp,
    pub(super) queued_at: Timestamp,
    pub(super) deadline_after: Option<Duration>,
    pub(super) deadline_at: Option<Timestamp>,
    /// As it is stored.
    pub(super) error: Option<String>,
}

pub(super) fn core(row: &Row) -> Result<Core, StoreError> {
    let (id, columns) = keyed(row)?;
    Ok(Core {
        id,
        state: columns.word("state")?,
        attempt: columns.count("attempt")?,
        version: columns.count("version")?,
        failed_attempts: columns.count("failed_attempts")?,
        crash_count: columns.count("crash_count")?,
        run_after: columns.time("run_after")?,
        queued_at: columns.time("queued_at")?,
        deadline_after: deadline_after(&columns)?,
        deadline_at: columns.optional_time("deadline_at")?,
        error: columns.get("error")?,
    })
}

pub(super) fn job(row: &Row) -> Result<Job, StoreError> {
    let (id, columns) = keyed(row)?;
    Ok(Job {
        id,
        name: columns.get("name")?,
        metadata: columns.json("metadata")?,
        spec: spec(&columns)?,
        state: columns.word("state")?,
        phase: columns.optional_word("phase")?,
        progress: columns.optional_json("progress")?,
        attempt: columns.count("attempt")?,
        failed_attempts: columns.count("failed_attempts")?,
        crash_count: columns.count("crash_count")?,
        max_attempts: columns.count("max_attempts")?,
        run_after: columns.time("run_after")?,
        scheduling: scheduling(&columns)?,
        queued_at: columns.time("queued_at")?,
        traceparent: columns.get("traceparent")?,
        lease_owner: columns.get("lease_owner")?,
        lease_expires_at: columns.optional_time("lease_expires_at")?,
        error: columns.optional_json("error")?,
        outcome: columns.optional_json("outcome")?,
        created_at: columns.time("created_at")?,
        started_at: columns.optional_time("started_at")?,
        finished_at: columns.optional_time("finished_at")?,
        updated_at: columns.time("updated_at")?,
        version: columns.count("version")?,
    })
}

fn deadline_after(columns: &Columns<'_>) -> Result<Option<Duration>, StoreError> {
    let millis: Option<u64> = columns.optional_count("deadline_after")?;
    Ok(millis.map(Duration::from_millis))
}

fn scheduling(columns: &Columns<'_>) -> Result<Scheduling, StoreError> {
    Ok(Scheduling {
        priority: columns.count("priority")?,
        submitter: columns.get("submitter")?,
        device_kind: columns.optional_word("device_kind")?,
        memory_bytes: columns.optional_count("memory_bytes")?,
        deadline_after: deadline_after(columns)?,
        deadline_at: columns.optional_time("deadline_at")?,
    })
}

/// The column `type` says what it is: rows of the version before that column have no word of it in their `spec`.
fn spec(columns: &Columns<'_>) -> Result<JobSpec, StoreError> {
    Ok(match columns.word("type")? {
        JobType::Prune => JobSpec::Prune(columns.json("spec")?),
        JobType::Evaluate => JobSpec::Evaluate(columns.json("spec")?),
    })
}

fn report(columns: &Columns<'_>) -> Result<JobReport, StoreError> {
    Ok(match columns.word("type")? {
        JobType::Prune => JobReport::Prune(columns.json("manifest")?),
        JobType::Evaluate => JobReport::Evaluate(columns.json("manifest")?),
    })
}

pub(super) fn event(row: &Row) -> Result<Event, StoreError> {
    let columns = Columns::new(row, "events");
    Ok(Event {
        seq: columns.count("seq")?,
        at: columns.time("at")?,
        attempt: columns.count("attempt")?,
        kind: columns.json("kind")?,
    })
}

pub(super) fn numbered(row: &Row) -> Result<Numbered, StoreError> {
    let columns = Columns::new(row, "events");
    let number = columns.count("number")?;
    let event = event(row).inspect_err(|error| {
        let error = error as &dyn std::error::Error;
        tracing::error!(error, event.number = number, "a stored event is left out");
    });
    Ok(Numbered {
        number,
        job_id: columns.word("job_id")?,
        event: event.ok(),
    })
}

pub(super) fn attempt(row: &Row) -> Result<Attempt, StoreError> {
    let columns = Columns::new(row, "attempts");
    Ok(Attempt {
        attempt: columns.count("attempt")?,
        worker_id: columns.get("worker_id")?,
        device: columns.get("device")?,
        started_at: columns.time("started_at")?,
        finished_at: columns.optional_time("finished_at")?,
        outcome: columns.optional_word("outcome")?,
        error: columns.optional_json("error")?,
    })
}

pub(super) fn publication(row: &Row) -> Result<Publication, StoreError> {
    let columns = Columns::new(row, "publications");
    Ok(Publication {
        attempt: columns.count("attempt")?,
        report: report(&columns)?,
        files: columns.json("files")?,
    })
}

/// `held` names the jobs of each worker.
pub(super) fn worker(
    row: &Row,
    now: Timestamp,
    held: &BTreeMap<String, Vec<JobId>>,
) -> Result<Worker, StoreError> {
    let mut columns = Columns::new(row, "workers");
    let id: String = columns.get("id")?;
    columns.key.clone_from(&id);
    Ok(Worker {
        jobs: held.get(&id).cloned().unwrap_or_default(),
        profile: WorkerProfile {
            id,
            host: columns.get("host")?,
            version: columns.get("version")?,
            devices: columns.json("devices")?,
            memory_bytes: columns.optional_count("memory_bytes")?,
        },
        draining: columns.get("draining")?,
        is_lost: columns.time("lost_at")? <= now,
        started_at: columns.time("started_at")?,
        seen_at: columns.time("seen_at")?,
    })
}

pub(super) fn group(row: &Row) -> Result<Group, StoreError> {
    let columns = Columns::new(row, "jobs by need");
    Ok(Group {
        needs: Needs {
            is_delayed: columns.get("is_delayed")?,
            is_retry: columns.get("is_retry")?,
            device: columns.optional_word("device_kind")?,
            memory_bytes: columns.optional_count("memory_bytes")?,
        },
        jobs: columns.count("jobs")?,
        since: columns.time("since")?,
    })
}

pub(super) fn submitter_load(row: &Row) -> Result<SubmitterLoad, StoreError> {
    let columns = Columns::new(row, "jobs by submitter");
    Ok(SubmitterLoad {
        submitter: columns.get("submitter")?,
        queued: columns.count("queued")?,
        running: columns.count("running")?,
    })
}

/// Plain data of `domain`: strings, numbers, maps with string keys.
pub(super) fn to_json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value)
        .unwrap_or_else(|error| unreachable!("the words of the service are JSON: {error}"))
}
