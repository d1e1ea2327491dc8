//! The tables `events` and `event_numbers`: the log of all jobs.

use jiff::Timestamp;

use super::columns::{Columns, readable, signed, to_json};
use super::webhooks::deliveries;
use super::{Connection, Connections, Database, Row};
use crate::domain::JobId;
use crate::domain::job::event::{Event, EventKind, Numbered};
use crate::store::{EventStore, StoreError, StoreFuture, failed};

const LIST: &str = "select seq, at, attempt, kind from events where job_id = $1 and seq > $2 order by seq limit $3";

/// Attempts follow each other in the log: it is read from its end to the attempt before, however many there were.
const LIST_OF_ATTEMPT: &str = "\
select seq, at, attempt, kind from events where job_id = $1 and attempt = $2 and seq > coalesce(( \
select seq from events where job_id = $1 and attempt < $2 order by seq desc limit 1), 0) order by seq";

/// Deletions are no part of a log that is left.
const LIST_ALL: &str = "\
select number, job_id, seq, at, attempt, kind from ( \
select number, job_id, seq, at, attempt, kind from events where number > $1 order by number limit $2) as kept \
union all \
select number, job_id, seq, at, attempt, kind from ( \
select number, id as job_id, seq, deleted_at as at, attempt, kind from deleted_jobs \
where number > $1 order by number limit $2) as deleted \
order by number limit $2";

/// Holds the number until the transaction commits: numbers become visible in their order.
const NEXT_NUMBER: &str = "update event_numbers set last = last + 1 where id = 1 returning last";

const LAST_NUMBER: &str = "select last from event_numbers where id = 1";

const APPEND: &str = "\
insert into events (job_id, seq, at, attempt, kind, number) \
values ($1, (select coalesce(max(seq), 0) + 1 from events where job_id = $1), $2, $3, $4, $5)";

impl EventStore for Database {
    fn list_events(&self, id: JobId, after: u64, limit: u32) -> StoreFuture<'_, Vec<Event>> {
        Connections::bounded(async move {
            let rows = sqlx::query(LIST)
                .bind(id.to_string())
                .bind(signed(after))
                .bind(i64::from(limit))
                .fetch_all(self.connections.readers())
                .await
                .map_err(failed("list events"))?;
            Ok(readable(&rows, event))
        })
    }

    fn list_attempt_events(&self, id: JobId, attempt: u32) -> StoreFuture<'_, Vec<Event>> {
        Connections::bounded(async move {
            let rows = sqlx::query(LIST_OF_ATTEMPT)
                .bind(id.to_string())
                .bind(i64::from(attempt))
                .fetch_all(self.connections.readers())
                .await
                .map_err(failed("list events"))?;
            Ok(readable(&rows, event))
        })
    }

    fn list_all_events(&self, after: u64, limit: u32) -> StoreFuture<'_, Vec<Numbered>> {
        Connections::bounded(async move {
            let rows = sqlx::query(LIST_ALL)
                .bind(signed(after))
                .bind(i64::from(limit))
                .fetch_all(self.connections.readers())
                .await
                .map_err(failed("list events"))?;
            rows.iter().map(numbered).collect()
        })
    }

    fn last_event_number(&self) -> StoreFuture<'_, u64> {
        Connections::bounded(async move {
            let row = sqlx::query(LAST_NUMBER)
                .fetch_one(self.connections.readers())
                .await
                .map_err(failed("look up the newest event"))?;
            Columns::new(&row, "event_numbers").count("last")
        })
    }
}

/// Appends to a job's log, and queues the webhook deliveries that tell of it.
pub(super) async fn append(
    connection: &mut Connection,
    id: JobId,
    attempt: u32,
    kind: &EventKind,
    now: Timestamp,
) -> Result<(), StoreError> {
    let number = sqlx::query(NEXT_NUMBER)
        .fetch_one(&mut *connection)
        .await
        .map_err(failed("number an event"))?;
    let number: i64 = Columns::new(&number, "event_numbers").get("last")?;
    sqlx::query(APPEND)
        .bind(id.to_string())
        .bind(now.as_millisecond())
        .bind(i64::from(attempt))
        .bind(to_json(kind))
        .bind(number)
        .execute(&mut *connection)
        .await
        .map_err(failed("store an event"))?;
    deliveries::enqueue(connection, id, kind, now).await
}

fn event(row: &Row) -> Result<Event, StoreError> {
    let columns = Columns::new(row, "events");
    Ok(Event {
        seq: columns.count("seq")?,
        at: columns.time("at")?,
        attempt: columns.count("attempt")?,
        kind: columns.json("kind")?,
    })
}

fn numbered(row: &Row) -> Result<Numbered, StoreError> {
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
