//! The table `metrics_exporter`.

use std::time::Duration;

use super::{Database, Writing};
use crate::store::{StoreError, failed};

const TAKE: &str = "\
update metrics_exporter set holder = $1, expires_at = $2 where id = 1 and (holder = $1 or expires_at <= $3)";

const RELEASE: &str = "update metrics_exporter set expires_at = 0 where id = 1 and holder = $1";

/// Takes the place of the exporter, or keeps it, unless another process has it.
pub(super) async fn take(
    store: &Database,
    holder: &str,
    lease: Duration,
) -> Result<bool, StoreError> {
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
