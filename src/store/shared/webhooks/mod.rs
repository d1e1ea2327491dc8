//! The table `webhooks`.

pub(super) mod deliveries;

use std::time::Duration;

use super::columns::{Columns, to_json};
use super::{Connection, Connections, Database, Row, Writing};
use crate::domain::webhook::{MAX_WEBHOOKS, Secret, Webhook, WebhookId};
use crate::store::{ChangedWebhook, NewWebhook, StoreError, StoreFuture, WebhookStore, failed};

/// The columns that are read.
macro_rules! webhook_columns {
    () => {
        "id, url, description, events, secret, previous_secret, previous_until, disabled_at, created_at"
    };
}

const INSERT: &str = concat!(
    "\
insert into webhooks (id, url, description, events, secret, created_at) \
select $1, $2, $3, $4, $5, $6 where (select count(*) from webhooks) < $7 \
returning ",
    webhook_columns!()
);

const LIST: &str = concat!("select ", webhook_columns!(), " from webhooks order by id");

const LOOKUP: &str = concat!(
    "select ",
    webhook_columns!(),
    " from webhooks where id = $1"
);

const DELETE: &str = "delete from webhooks where id = $1";

const REPLACE_SECRET: &str = concat!(
    "\
update webhooks set previous_secret = secret, previous_until = $3, secret = $2 where id = $1 \
returning ",
    webhook_columns!()
);

const ENABLE: &str = concat!(
    "update webhooks set disabled_at = null where id = $1 returning ",
    webhook_columns!()
);

/// One that is disabled already stays so since then.
const CHANGE: &str = concat!(
    "\
update webhooks set url = coalesce($2, url), description = coalesce($3, description), \
events = coalesce($4, events), disabled_at = case cast($5 as bigint) when 1 then null when 0 then coalesce(disabled_at, $6) \
else disabled_at end where id = $1 returning ",
    webhook_columns!()
);

impl WebhookStore for Database {
    fn insert_webhook<'a>(&'a self, webhook: &'a NewWebhook) -> StoreFuture<'a, Option<Webhook>> {
        Connections::bounded(async move {
            let mut writing = Writing::begin(self).await?;
            let inserted = sqlx::query(INSERT)
                .bind(webhook.id.to_string())
                .bind(&webhook.url)
                .bind(webhook.description.as_deref())
                .bind(to_json(&webhook.events))
                .bind(webhook.secret.expose())
                .bind(writing.now.as_millisecond())
                .bind(i64::from(MAX_WEBHOOKS))
                .fetch_optional(&mut *writing.transaction)
                .await
                .map_err(failed("store a webhook"))?;
            let inserted = inserted.as_ref().map(read_webhook).transpose()?;
            writing.commit("store a webhook").await?;
            Ok(inserted)
        })
    }

    fn list_webhooks(&self) -> StoreFuture<'_, Vec<Webhook>> {
        Connections::bounded(async move {
            let rows = sqlx::query(LIST)
                .fetch_all(self.connections.readers())
                .await
                .map_err(failed("list webhooks"))?;
            rows.iter().map(read_webhook).collect()
        })
    }

    fn lookup_webhook(&self, id: WebhookId) -> StoreFuture<'_, Option<Webhook>> {
        Connections::bounded(async move {
            let found = sqlx::query(LOOKUP)
                .bind(id.to_string())
                .fetch_optional(self.connections.readers())
                .await
                .map_err(failed("look up a webhook"))?;
            found.as_ref().map(read_webhook).transpose()
        })
    }

    fn delete_webhook(&self, id: WebhookId) -> StoreFuture<'_, bool> {
        Connections::bounded(async move {
            let mut writing = Writing::begin(self).await?;
            let mut deleted = [0; 2];
            // In the order in which a claim locks them.
            let statements = [DELETE, deliveries::DELETE_OF_WEBHOOK];
            for (statement, deleted) in statements.into_iter().zip(&mut deleted) {
                let done = sqlx::query(statement)
                    .bind(id.to_string())
                    .execute(&mut *writing.transaction)
                    .await;
                *deleted = done.map_err(failed("delete a webhook"))?.rows_affected();
            }
            writing.commit("delete a webhook").await?;
            let [webhooks, _deliveries] = deleted;
            Ok(webhooks > 0)
        })
    }

    fn replace_secret<'a>(
        &'a self,
        id: WebhookId,
        secret: &'a Secret,
        overlap: Duration,
    ) -> StoreFuture<'a, Option<Webhook>> {
        Connections::bounded(async move {
            let mut writing = Writing::begin(self).await?;
            let replaced = sqlx::query(REPLACE_SECRET)
                .bind(id.to_string())
                .bind(secret.expose())
                .bind((writing.now + overlap).as_millisecond())
                .fetch_optional(&mut *writing.transaction)
                .await
                .map_err(failed("store a secret"))?;
            let replaced = replaced.as_ref().map(read_webhook).transpose()?;
            writing.commit("store a secret").await?;
            Ok(replaced)
        })
    }

    fn enable_webhook(&self, id: WebhookId) -> StoreFuture<'_, Option<Webhook>> {
        Connections::bounded(async move {
            let mut writing = Writing::begin(self).await?;
            let enabled = sqlx::query(ENABLE)
                .bind(id.to_string())
                .fetch_optional(&mut *writing.transaction)
                .await
                .map_err(failed("enable a webhook"))?;
            let enabled = enabled.as_ref().map(read_webhook).transpose()?;
            writing.commit("enable a webhook").await?;
            Ok(enabled)
        })
    }

    fn change_webhook<'a>(
        &'a self,
        id: WebhookId,
        change: &'a ChangedWebhook,
    ) -> StoreFuture<'a, Option<Webhook>> {
        Connections::bounded(async move {
            let mut writing = Writing::begin(self).await?;
            let changed = sqlx::query(CHANGE)
                .bind(id.to_string())
                .bind(change.url.as_deref())
                .bind(change.description.as_deref())
                .bind(change.events.as_ref().map(to_json))
                .bind(change.enabled.map_or(-1, i64::from))
                .bind(writing.now.as_millisecond())
                .fetch_optional(&mut *writing.transaction)
                .await
                .map_err(failed("change a webhook"))?;
            let changed = changed.as_ref().map(read_webhook).transpose()?;
            writing.commit("change a webhook").await?;
            Ok(changed)
        })
    }
}

/// Reads one webhook, within a transaction.
pub(super) async fn lookup(
    connection: &mut Connection,
    id: WebhookId,
) -> Result<Option<Webhook>, StoreError> {
    let found = sqlx::query(LOOKUP)
        .bind(id.to_string())
        .fetch_optional(connection)
        .await
        .map_err(failed("look up a webhook"))?;
    found.as_ref().map(read_webhook).transpose()
}

fn read_webhook(row: &Row) -> Result<Webhook, StoreError> {
    let columns = Columns::new(row, "webhooks");
    let previous: Option<String> = columns.get("previous_secret")?;
    let until = columns.optional_time("previous_until")?;
    Ok(Webhook {
        id: columns.word("id")?,
        url: columns.get("url")?,
        description: columns.get("description")?,
        events: columns.json("events")?,
        secret: Secret::new(columns.get("secret")?),
        previous: previous.map(Secret::new).zip(until),
        disabled_at: columns.optional_time("disabled_at")?,
        created_at: columns.time("created_at")?,
    })
}
