//! Webhooks and the messages to them.

use std::time::Duration;

use jiff::Timestamp;

use super::row::{Columns, to_json};
use super::{Connection, Connections, Database, Row, Writing, delivery, signed, sql};
use crate::domain::JobId;
use crate::domain::job::event::EventKind;
use crate::domain::webhook::{
    self, Delivery, JobMark, MAX_WEBHOOKS, Secret, Sent, Webhook, WebhookEvent, WebhookId,
};
use crate::store::{
    Asked, Dispatch, Followup, NewWebhook, Outbox, StoreError, StoreFuture, failed,
};

impl Outbox for Database {
    fn insert_webhook<'a>(&'a self, webhook: &'a NewWebhook) -> StoreFuture<'a, Option<Webhook>> {
        Connections::bounded(async move {
            let mut writing = Writing::begin(self).await?;
            let inserted = insert_webhook(&mut writing.transaction, webhook, writing.now).await?;
            writing.commit("store a webhook").await?;
            Ok(inserted)
        })
    }

    fn list_webhooks(&self) -> StoreFuture<'_, Vec<Webhook>> {
        Connections::bounded(async move {
            let rows = sqlx::query(sql::LIST_WEBHOOKS)
                .fetch_all(self.connections.readers())
                .await
                .map_err(failed("list webhooks"))?;
            rows.iter().map(webhook_row).collect()
        })
    }

    fn lookup_webhook(&self, id: WebhookId) -> StoreFuture<'_, Option<Webhook>> {
        Connections::bounded(async move {
            let found = sqlx::query(sql::LOOKUP_WEBHOOK)
                .bind(id.to_string())
                .fetch_optional(self.connections.readers())
                .await
                .map_err(failed("look up a webhook"))?;
            found.as_ref().map(webhook_row).transpose()
        })
    }

    fn delete_webhook(&self, id: WebhookId) -> StoreFuture<'_, bool> {
        Connections::bounded(async move {
            let mut writing = Writing::begin(self).await?;
            let mut deleted = [0; 2];
            // In the order in which a claim locks them.
            let statements = [sql::DELETE_WEBHOOK, sql::DELETE_DELIVERIES];
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
            let replaced = sqlx::query(sql::REPLACE_SECRET)
                .bind(id.to_string())
                .bind(secret.expose())
                .bind((writing.now + overlap).as_millisecond())
                .fetch_optional(&mut *writing.transaction)
                .await
                .map_err(failed("store a secret"))?;
            let replaced = replaced.as_ref().map(webhook_row).transpose()?;
            writing.commit("store a secret").await?;
            Ok(replaced)
        })
    }

    fn enable_webhook(&self, id: WebhookId) -> StoreFuture<'_, Option<Webhook>> {
        Connections::bounded(async move {
            let mut writing = Writing::begin(self).await?;
            let enabled = sqlx::query(sql::ENABLE_WEBHOOK)
                .bind(id.to_string())
                .fetch_optional(&mut *writing.transaction)
                .await
                .map_err(failed("enable a webhook"))?;
            let enabled = enabled.as_ref().map(webhook_row).transpose()?;
            writing.commit("enable a webhook").await?;
            Ok(enabled)
        })
    }

    fn insert_test<'a>(
        &'a self,
        id: WebhookId,
        message_id: &'a str,
    ) -> StoreFuture<'a, Asked<Delivery>> {
        Connections::bounded(async move {
            let mut writing = Writing::begin(self).await?;
            let (transaction, now) = (&mut writing.transaction, writing.now);
            if let Some(refused) = refusal(transaction, id).await? {
                return Ok(refused);
            }
            let message = Message {
                id: message_id.to_owned(),
                event: WebhookEvent::Test,
                job_id: None,
                payload: webhook::test_payload(id, now),
            };
            insert_message(transaction, &id.to_string(), &message, now).await?;
            let delivery = lookup_delivery(transaction, id, message_id).await?;
            writing.commit("store a message").await?;
            let delivery = delivery.ok_or_else(|| StoreError::Statement {
                operation: "store a message",
                source: sqlx::Error::RowNotFound,
            })?;
            Ok(Asked::Done(delivery))
        })
    }

    fn list_deliveries(
        &self,
        id: WebhookId,
        before: Option<u64>,
        limit: u32,
    ) -> StoreFuture<'_, Vec<Delivery>> {
        Connections::bounded(async move {
            let rows = sqlx::query(sql::LIST_DELIVERIES)
                .bind(id.to_string())
                .bind(before.map(signed))
                .bind(i64::from(limit))
                .fetch_all(self.connections.readers())
                .await
                .map_err(failed("list messages"))?;
            rows.iter().map(delivery_row).collect()
        })
    }

    fn redeliver<'a>(
        &'a self,
        id: WebhookId,
        message_id: &'a str,
    ) -> StoreFuture<'a, Asked<Option<Delivery>>> {
        Connections::bounded(async move {
            let mut writing = Writing::begin(self).await?;
            let (transaction, now) = (&mut writing.transaction, writing.now);
            if let Some(refused) = refusal(transaction, id).await? {
                return Ok(refused);
            }
            sqlx::query(sql::REDELIVER)
                .bind(id.to_string())
                .bind(message_id)
                .bind(now.as_millisecond())
                .execute(&mut **transaction)
                .await
                .map_err(failed("ask for a message again"))?;
            let delivery = lookup_delivery(transaction, id, message_id).await?;
            writing.commit("ask for a message again").await?;
            Ok(Asked::Done(delivery))
        })
    }

    fn claim_delivery(&self, lease: Duration, at_once: u32) -> StoreFuture<'_, Option<Dispatch>> {
        Connections::bounded(async move {
            let mut writing = Writing::begin(self).await?;
            let (transaction, now) = (&mut writing.transaction, writing.now);
            let dispatch = delivery::claim(transaction, now, now + lease, at_once).await?;
            if dispatch.is_some() {
                writing.commit("take a message").await?;
            }
            Ok(dispatch)
        })
    }

    fn settle_delivery<'a>(
        &'a self,
        dispatch: &'a Dispatch,
        sent: &'a Sent,
        followup: Followup,
    ) -> StoreFuture<'a, bool> {
        Connections::bounded(async move {
            let mut writing = Writing::begin(self).await?;
            let (transaction, now) = (&mut writing.transaction, writing.now);
            let is_settled = delivery::settle(transaction, dispatch, sent, followup, now).await?;
            if is_settled {
                writing.commit("store how a message was sent").await?;
            }
            Ok(is_settled)
        })
    }

    fn count_pending_deliveries(&self) -> StoreFuture<'_, u64> {
        Connections::bounded(async move {
            let row = sqlx::query(sql::COUNT_PENDING)
                .fetch_one(self.connections.readers())
                .await
                .map_err(failed("count messages"))?;
            Columns::new(&row, "webhook_deliveries").count("pending")
        })
    }

    fn forget_deliveries(&self, age: Duration) -> StoreFuture<'_, u64> {
        Connections::bounded(async move {
            let mut writing = Writing::begin(self).await?;
            let done = sqlx::query(sql::FORGET_DELIVERIES)
                .bind((writing.now - age).as_millisecond())
                .execute(&mut *writing.transaction)
                .await
                .map_err(failed("forget messages"))?;
            writing.commit("forget messages").await?;
            Ok(done.rows_affected())
        })
    }
}

/// A message as it is written for one webhook.
struct Message {
    id: String,
    event: WebhookEvent,
    job_id: Option<JobId>,
    payload: String,
}

/// Writes what is to be sent of an entry of a job's log, in the transaction that wrote the entry and the job's change.
pub(super) async fn enqueue(
    connection: &mut Connection,
    id: JobId,
    kind: &EventKind,
    now: Timestamp,
) -> Result<(), StoreError> {
    let Some(event) = WebhookEvent::of(kind) else {
        return Ok(());
    };
    let rows = sqlx::query(sql::LIST_ENABLED_WEBHOOKS)
        .fetch_all(&mut *connection)
        .await
        .map_err(failed("list webhooks"))?;
    let mut message = None;
    for row in &rows {
        let columns = Columns::new(row, "webhooks");
        let webhook_id: String = columns.get("id")?;
        if !wants(&columns, &webhook_id, event) {
            continue;
        }
        let message = match &message {
            Some(message) => message,
            None => message.insert(job_message(connection, id, event, now).await?),
        };
        insert_message(connection, &webhook_id, message, now).await?;
    }
    Ok(())
}

/// A webhook that cannot be read is told nothing: it must not keep jobs from going on.
fn wants(columns: &Columns<'_>, webhook_id: &str, event: WebhookEvent) -> bool {
    match columns.json::<Vec<String>>("events") {
        Ok(events) => events.iter().any(|wanted| wanted == event.as_str()),
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, webhook.id = webhook_id, "a webhook is left out");
            false
        }
    }
}

async fn job_message(
    connection: &mut Connection,
    id: JobId,
    event: WebhookEvent,
    now: Timestamp,
) -> Result<Message, StoreError> {
    let row = sqlx::query(sql::MARK_JOB)
        .bind(id.to_string())
        .fetch_one(connection)
        .await
        .map_err(failed("look up a job"))?;
    let columns = Columns::new(&row, "jobs");
    let mark = JobMark {
        id,
        state: columns.word("state")?,
        version: columns.count("version")?,
        seq: columns.count("seq")?,
        attempt: columns.count("attempt")?,
    };
    Ok(Message {
        id: mark.message_id(),
        event,
        job_id: Some(id),
        payload: mark.payload(event, now),
    })
}

async fn insert_message(
    connection: &mut Connection,
    webhook_id: &str,
    message: &Message,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(sql::INSERT_DELIVERY)
        .bind(webhook_id)
        .bind(&message.id)
        .bind(message.event.as_str())
        .bind(message.job_id.map(|id| id.to_string()))
        .bind(&message.payload)
        .bind(now.as_millisecond())
        .execute(connection)
        .await
        .map_err(failed("store a message"))?;
    Ok(())
}

async fn insert_webhook(
    connection: &mut Connection,
    webhook: &NewWebhook,
    now: Timestamp,
) -> Result<Option<Webhook>, StoreError> {
    let inserted = sqlx::query(sql::INSERT_WEBHOOK)
        .bind(webhook.id.to_string())
        .bind(&webhook.url)
        .bind(webhook.description.as_deref())
        .bind(to_json(&webhook.events))
        .bind(webhook.secret.expose())
        .bind(now.as_millisecond())
        .bind(i64::from(MAX_WEBHOOKS))
        .fetch_optional(connection)
        .await
        .map_err(failed("store a webhook"))?;
    inserted.as_ref().map(webhook_row).transpose()
}

/// Why a webhook is sent nothing; `None` = it is.
async fn refusal<T>(
    connection: &mut Connection,
    id: WebhookId,
) -> Result<Option<Asked<T>>, StoreError> {
    let found = sqlx::query(sql::LOOKUP_WEBHOOK)
        .bind(id.to_string())
        .fetch_optional(connection)
        .await
        .map_err(failed("look up a webhook"))?;
    let webhook = found.as_ref().map(webhook_row).transpose()?;
    Ok(match webhook {
        None => Some(Asked::Unknown),
        Some(webhook) if webhook.disabled_at.is_some() => Some(Asked::Disabled),
        Some(_) => None,
    })
}

async fn lookup_delivery(
    connection: &mut Connection,
    id: WebhookId,
    message_id: &str,
) -> Result<Option<Delivery>, StoreError> {
    let found = sqlx::query(sql::LOOKUP_DELIVERY)
        .bind(id.to_string())
        .bind(message_id)
        .fetch_optional(connection)
        .await
        .map_err(failed("look up a message"))?;
    found.as_ref().map(delivery_row).transpose()
}

fn webhook_row(row: &Row) -> Result<Webhook, StoreError> {
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

fn delivery_row(row: &Row) -> Result<Delivery, StoreError> {
    let columns = Columns::new(row, "webhook_deliveries");
    let job_id: Option<String> = columns.get("job_id")?;
    let sent_at = columns.optional_time("last_attempt_at")?;
    let sent = Sent {
        status: columns.optional_count("last_status")?,
        error: columns.optional_word("last_error")?,
        duration_ms: columns.optional_count("last_duration_ms")?.unwrap_or(0),
    };
    Ok(Delivery {
        number: columns.count("seq")?,
        message_id: columns.get("message_id")?,
        event: columns.word("event")?,
        job_id: job_id.and_then(|id| id.parse().ok()),
        state: columns.word("state")?,
        attempts: columns.count("attempts")?,
        next_attempt_at: columns.optional_time("next_attempt_at")?,
        last: sent_at.map(|at| (at, sent)),
        created_at: columns.time("created_at")?,
    })
}
