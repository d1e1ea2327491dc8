//! The table `store_id`.

use super::columns::Columns;
use super::{Database, Writing};
use crate::store::{StoreError, StoreId, failed};

const PROPOSE: &str = "insert into store_id (id, store_id, is_paired) values (1, $1, false) on conflict (id) do nothing";

const LOOKUP: &str = "select store_id, is_paired from store_id where id = 1";

const PAIR: &str =
    "update store_id set store_id = $1, is_paired = true where id = 1 and not is_paired";

/// Reads the id, after the proposed one was stored where there was none.
pub(super) async fn lookup(store: &Database, proposed: &str) -> Result<StoreId, StoreError> {
    let mut writing = Writing::begin(store).await?;
    sqlx::query(PROPOSE)
        .bind(proposed)
        .execute(&mut *writing.transaction)
        .await
        .map_err(failed("store the store id"))?;
    let row = sqlx::query(LOOKUP)
        .fetch_one(&mut *writing.transaction)
        .await
        .map_err(failed("look up the store id"))?;
    let columns = Columns::new(&row, "store_id");
    let found = StoreId {
        id: columns.get("store_id")?,
        is_paired: columns.get("is_paired")?,
    };
    writing.commit("store the store id").await?;
    Ok(found)
}

/// Pairs the database, unless it is paired already.
pub(super) async fn pair(store: &Database, id: &str) -> Result<(), StoreError> {
    let mut writing = Writing::begin(store).await?;
    sqlx::query(PAIR)
        .bind(id)
        .execute(&mut *writing.transaction)
        .await
        .map_err(failed("pair the artifact store"))?;
    writing.commit("pair the artifact store").await
}
