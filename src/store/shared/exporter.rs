//! The table `metrics_exporter`.

use std::time::Duration;

use jiff::Timestamp;

use super::columns::Columns;
use super::{Connections, Database, Reading, Writing};
use crate::store::{StoreError, failed};

const LOOKUP: &str = "select holder, expires_at from metrics_exporter where id = 1";

const TAKE: &str = "\
update metrics_exporter set holder = $1, expires_at = $2 where id = 1 and (holder = $1 or expires_at <= $3)";

const RELEASE: &str = "update metrics_exporter set expires_at = 0 where id = 1 and holder = $1";

/// Takes the place of the exporter, or keeps it, unless another process has it. Writes once in half a lease at most: anybody may ask,
/// as often as they like. The holder keeps its place while nothing can be written, since nobody else can take it.
pub(super) async fn take(
    store: &Database,
    holder: &str,
    lease: Duration,
) -> Result<bool, StoreError> {
    let (is_held, time_left) = Connections::bounded(look_up(store, holder)).await?;
    if time_left > Duration::ZERO && !is_held {
        return Ok(false);
    }
    if is_held && time_left > lease / 2 {
        return Ok(true);
    }
    match Connections::bounded(write(store, holder, lease)).await {
        Err(error) if is_held => {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "cannot extend the place of the exporter");
            Ok(true)
        }
        taken => taken,
    }
}

/// Whether this process has the place, or had it last, and how long it is held.
async fn look_up(store: &Database, holder: &str) -> Result<(bool, Duration), StoreError> {
    let mut reading = Reading::begin(store).await?;
    let row = sqlx::query(LOOKUP)
        .fetch_one(&mut *reading.transaction)
        .await
        .map_err(failed("look up the exporter"))?;
    let columns = Columns::new(&row, "metrics_exporter");
    let (held_by, until): (String, Timestamp) =
        (columns.get("holder")?, columns.time("expires_at")?);
    let time_left = until.duration_since(reading.now);
    reading.end().await?;
    Ok((held_by == holder, time_left.try_into().unwrap_or_default()))
}

async fn write(store: &Database, holder: &str, lease: Duration) -> Result<bool, StoreError> {
    let mut writing = Writing::begin(store).await?;
    let taken = sqlx::query(TAKE)
        .bind(holder)
        .bind((writing.now + lease).as_millisecond())
        .bind(writing.now.as_millisecond())
        .execute(&mut *writing.transaction)
        .await
        .map_err(failed("take the place of the exporter"))?;
    writing.commit("take the place of the exporter").await?;
    Ok(taken.rows_affected() == 1)
}

/// Leaves the place to others.
pub(super) async fn release(store: &Database, holder: &str) -> Result<(), StoreError> {
    let mut writing = Writing::begin(store).await?;
    sqlx::query(RELEASE)
        .bind(holder)
        .execute(&mut *writing.transaction)
        .await
        .map_err(failed("leave the place of the exporter"))?;
    writing.commit("leave the place of the exporter").await
}
