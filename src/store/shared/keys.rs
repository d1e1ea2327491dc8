//! Requests under a key: what an earlier one was answered, and who is the first.

use jiff::Timestamp;

use super::row::{Columns, to_json};
use super::{Connection, sql};
use crate::domain::idempotency::{KeyedRequest, LIFETIME, Reply};
use crate::store::{Earlier, StoreError, failed};

pub(super) async fn lookup_earlier(
    connection: &mut Connection,
    request: &KeyedRequest,
    now: Timestamp,
) -> Result<Option<Earlier>, StoreError> {
    let found = sqlx::query(sql::LOOKUP_KEY)
        .bind(request.scope)
        .bind(request.key.as_str())
        .bind(now.as_millisecond())
        .fetch_optional(connection)
        .await
        .map_err(failed("look up a key"))?;
    let Some(row) = found else { return Ok(None) };
    let columns = Columns::new(&row, "idempotency_keys");
    let fingerprint: String = columns.get("fingerprint")?;
    if fingerprint == request.fingerprint.to_string() {
        Ok(Some(Earlier::Same(columns.json("reply")?)))
    } else {
        Ok(Some(Earlier::Other))
    }
}

/// Takes the key for this request, or gives what the one says that has it. A transaction that is just taking it is
/// waited for.
pub(super) async fn take(
    connection: &mut Connection,
    request: &KeyedRequest,
    reply: &Reply,
    now: Timestamp,
) -> Result<Option<Earlier>, StoreError> {
    loop {
        sqlx::query(sql::FORGET_KEY)
            .bind(request.scope)
            .bind(request.key.as_str())
            .bind(now.as_millisecond())
            .execute(&mut *connection)
            .await
            .map_err(failed("forget a key"))?;
        let taken = sqlx::query(sql::TAKE_KEY)
            .bind(request.scope)
            .bind(request.key.as_str())
            .bind(request.fingerprint.to_string())
            .bind(to_json(reply))
            .bind((now + LIFETIME).as_millisecond())
            .execute(&mut *connection)
            .await
            .map_err(failed("store a key"))?;
        if taken.rows_affected() == 1 {
            return Ok(None);
        }
        // Nothing is found where the key's time ended between the two statements of somebody else.
        if let Some(earlier) = lookup_earlier(connection, request, now).await? {
            return Ok(Some(earlier));
        }
    }
}

pub(super) async fn forget_expired(
    connection: &mut Connection,
    now: Timestamp,
) -> Result<u64, StoreError> {
    let done = sqlx::query(sql::FORGET_KEYS)
        .bind(now.as_millisecond())
        .execute(connection)
        .await;
    Ok(done.map_err(failed("forget keys"))?.rows_affected())
}
