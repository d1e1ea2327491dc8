//! The table `webhook_deliveries`: the outbox.

use std::time::Duration;

use jiff::Timestamp;

use super::super::columns::{Columns, signed};
use super::super::{Connection, Connections, Database, Row, Writing};
use crate::domain::JobId;
use crate::domain::job::event::EventKind;
use crate::domain::webhook::{
    self, Delivery, DeliveryError, JobMark, Secret, Sent, WebhookEvent, WebhookId,
};
use crate::store::{Asked, DeliveryStore, Dispatch, Followup, StoreError, StoreFuture, failed};

/// The columns that are listed.
macro_rules! delivery_columns {
    () => {
        "seq, message_id, event, job_id, state, attempts, next_attempt_at, last_attempt_at, last_status, last_error, \
         last_duration_ms, created_at"
    };
}

/// The webhook to serve next: of the enabled ones with something due and less than their share under way, the one with
/// the least under way; of those, the one that has waited longest. Its row is locked until the transaction ends; one that
/// another server has locked is skipped.
///
/// What it costs grows with the number of webhooks, and not with that of the messages.
const PICK_WEBHOOK: &str = concat!(
    "\
with load as ( \
select id as webhook_id, ( \
select count(*) from webhook_deliveries as busy \
where busy.webhook_id = webhooks.id and busy.claimed_until > $1) as under_way, ( \
select due.next_attempt_at from webhook_deliveries as due \
where due.webhook_id = webhooks.id and due.state = 'pending' and due.next_attempt_at <= $1 \
and (due.claimed_until is null or due.claimed_until <= $1) \
order by due.next_attempt_at limit 1) as due_at \
from webhooks where disabled_at is null \
) \
select id, url, secret, previous_secret, previous_until from webhooks join load on webhook_id = id \
where disabled_at is null and under_way < $2 and due_at is not null \
order by under_way, due_at, id limit 1",
    skip_locked_webhooks!()
);

const INSERT: &str = "\
insert into webhook_deliveries \
(webhook_id, message_id, event, job_id, payload, state, attempts, claims, next_attempt_at, created_at) \
values ($1, $2, $3, $4, $5, 'pending', 0, 0, $6, $6)";

const LIST: &str = concat!(
    "select ",
    delivery_columns!(),
    " from webhook_deliveries where webhook_id = $1 and ($2 is null or seq < $2) order by seq desc limit $3"
);

const LOOKUP: &str = concat!(
    "select ",
    delivery_columns!(),
    " from webhook_deliveries where webhook_id = $1 and message_id = $2"
);

const REDELIVER: &str = "\
update webhook_deliveries set state = 'pending', next_attempt_at = $3, \
attempts = case when state = 'pending' then attempts else 0 end \
where webhook_id = $1 and message_id = $2";

/// The message to a webhook that is due for longest. Attempts are counted here, so that one which is never heard of counts
/// too. What the webhook was picked by is checked again: it is locked by now, and was not before.
const CLAIM: &str = "\
update webhook_deliveries set claims = claims + 1, attempts = attempts + 1, claimed_until = $3 \
where seq = (select due.seq from webhook_deliveries as due \
where due.webhook_id = $1 and due.state = 'pending' and due.next_attempt_at <= $2 \
and (due.claimed_until is null or due.claimed_until <= $2) \
order by due.next_attempt_at, due.seq limit 1) \
and state = 'pending' and next_attempt_at <= $2 and (claimed_until is null or claimed_until <= $2) \
and (select count(*) from webhook_deliveries as busy \
where busy.webhook_id = $1 and busy.claimed_until > $2) < $4 \
returning seq, message_id, payload, attempts, claims";

const SETTLE: &str = "\
update webhook_deliveries set state = $3, next_attempt_at = $4, claimed_until = null, last_attempt_at = $5, \
last_status = $6, last_error = $7, last_duration_ms = $8 \
where seq = $1 and claims = $2 and claimed_until is not null";

const COUNT_PENDING: &str = "\
select count(*) as pending from webhook_deliveries \
where state = 'pending' and webhook_id in (select id from webhooks where disabled_at is null)";

const FORGET: &str = "\
delete from webhook_deliveries where seq in ( \
select seq from webhook_deliveries where created_at < $1 and ( \
state <> 'pending' or webhook_id in (select id from webhooks where disabled_at is not null)) \
order by created_at limit 1000)";

/// The webhooks that have messages and are gone, found one after the other in the index.
const LIST_GONE: &str = "\
with recursive known as ( \
select min(webhook_id) as id from webhook_deliveries \
union all \
select (select min(webhook_id) from webhook_deliveries where webhook_id > known.id) from known where known.id is not null \
) select id from known where id is not null and id not in (select id from webhooks)";

const LIST_ENABLED_WEBHOOKS: &str =
    "select id, events from webhooks where disabled_at is null order by id";

const DISABLE_WEBHOOK: &str =
    "update webhooks set disabled_at = $2 where id = $1 and disabled_at is null";

const MARK_JOB: &str = "\
select state, version, attempt, (select max(seq) from events where job_id = $1) as seq from jobs where id = $1";

pub(super) const DELETE_OF_WEBHOOK: &str = "delete from webhook_deliveries where webhook_id = $1";

impl DeliveryStore for Database {
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
            let rows = sqlx::query(LIST)
                .bind(id.to_string())
                .bind(before.map(signed))
                .bind(i64::from(limit))
                .fetch_all(self.connections.readers())
                .await
                .map_err(failed("list messages"))?;
            rows.iter().map(delivery).collect()
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
            sqlx::query(REDELIVER)
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
            let dispatch = claim(transaction, now, now + lease, at_once).await?;
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
            let is_settled = settle(transaction, dispatch, sent, followup, now).await?;
            if is_settled {
                writing.commit("store how a message was sent").await?;
            }
            Ok(is_settled)
        })
    }

    fn count_pending_deliveries(&self) -> StoreFuture<'_, u64> {
        Connections::bounded(async move {
            let row = sqlx::query(COUNT_PENDING)
                .fetch_one(self.connections.readers())
                .await
                .map_err(failed("count messages"))?;
            Columns::new(&row, "webhook_deliveries").count("pending")
        })
    }

    fn forget_deliveries(&self, age: Duration) -> StoreFuture<'_, u64> {
        Connections::bounded(async move {
            let mut forgotten = forget_gone(self).await?;
            loop {
                let mut writing = Writing::begin(self).await?;
                let done = sqlx::query(FORGET)
                    .bind((writing.now - age).as_millisecond())
                    .execute(&mut *writing.transaction)
                    .await
                    .map_err(failed("forget messages"))?;
                writing.commit("forget messages").await?;
                if done.rows_affected() == 0 {
                    return Ok(forgotten);
                }
                forgotten += done.rows_affected();
            }
        })
    }
}

/// Forgets the messages to webhooks that were deleted while one was written.
async fn forget_gone(store: &Database) -> Result<u64, StoreError> {
    let gone = sqlx::query(LIST_GONE)
        .fetch_all(store.connections.readers())
        .await
        .map_err(failed("look for deleted webhooks"))?;
    let mut forgotten = 0;
    for row in &gone {
        let id: String = Columns::new(row, "webhook_deliveries").get("id")?;
        let mut writing = Writing::begin(store).await?;
        let done = sqlx::query(DELETE_OF_WEBHOOK)
            .bind(id)
            .execute(&mut *writing.transaction)
            .await
            .map_err(failed("forget messages"))?;
        writing.commit("forget messages").await?;
        forgotten += done.rows_affected();
    }
    Ok(forgotten)
}

/// A message as it is written for one webhook.
struct Message {
    id: String,
    event: WebhookEvent,
    job_id: Option<JobId>,
    payload: String,
}

/// Writes what is to be sent of an entry of a job's log, in the transaction that wrote the entry and the job's change.
pub(in super::super) async fn enqueue(
    connection: &mut Connection,
    id: JobId,
    kind: &EventKind,
    now: Timestamp,
) -> Result<(), StoreError> {
    let Some(event) = WebhookEvent::of(kind) else {
        return Ok(());
    };
    let rows = sqlx::query(LIST_ENABLED_WEBHOOKS)
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
    let row = sqlx::query(MARK_JOB)
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
    sqlx::query(INSERT)
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

/// Why a webhook is sent nothing; `None` = it is.
async fn refusal<T>(
    connection: &mut Connection,
    id: WebhookId,
) -> Result<Option<Asked<T>>, StoreError> {
    let webhook = super::lookup(connection, id).await?;
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
    let found = sqlx::query(LOOKUP)
        .bind(id.to_string())
        .bind(message_id)
        .fetch_optional(connection)
        .await
        .map_err(failed("look up a message"))?;
    found.as_ref().map(delivery).transpose()
}

/// Claims the oldest message of the next webhook.
async fn claim(
    connection: &mut Connection,
    now: Timestamp,
    until: Timestamp,
    at_once: u32,
) -> Result<Option<Dispatch>, StoreError> {
    loop {
        let picked = sqlx::query(PICK_WEBHOOK)
            .bind(now.as_millisecond())
            .bind(i64::from(at_once))
            .fetch_optional(&mut *connection)
            .await
            .map_err(failed("pick a webhook"))?;
        let Some(webhook) = picked else {
            return Ok(None);
        };
        let columns = Columns::new(&webhook, "webhooks");
        let claimed = sqlx::query(CLAIM)
            .bind(columns.get::<String>("id")?)
            .bind(now.as_millisecond())
            .bind(until.as_millisecond())
            .bind(i64::from(at_once))
            .fetch_optional(&mut *connection)
            .await
            .map_err(failed("take a message"))?;
        // Another server claimed it meanwhile.
        let Some(message) = claimed else { continue };
        return dispatch(&columns, &message, now).map(Some);
    }
}

/// What is sent, and where. Of the webhook only what that takes is read: one that this version cannot read as a whole
/// keeps no other waiting.
fn dispatch(webhook: &Columns<'_>, message: &Row, now: Timestamp) -> Result<Dispatch, StoreError> {
    let columns = Columns::new(message, "webhook_deliveries");
    let secret: String = webhook.get("secret")?;
    let previous: Option<String> = webhook.get("previous_secret")?;
    let until = webhook.optional_time("previous_until")?;
    let previous = previous.filter(|_| until.is_some_and(|until| until > now));
    let secrets = [secret].into_iter().chain(previous);
    Ok(Dispatch {
        number: columns.count("seq")?,
        claims: columns.count("claims")?,
        attempts: columns.count("attempts")?,
        message_id: columns.get("message_id")?,
        payload: columns.get("payload")?,
        webhook_id: webhook.word("id")?,
        url: webhook.get("url")?,
        secrets: secrets.map(Secret::new).collect(),
    })
}

/// Whether the message was still the caller's. If not, nothing of this may be committed.
async fn settle(
    connection: &mut Connection,
    dispatch: &Dispatch,
    sent: &Sent,
    followup: Followup,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let (state, next) = match followup {
        Followup::Succeeded => ("succeeded", None),
        Followup::Retry(delay) => ("pending", Some(now + delay)),
        Followup::Exhausted | Followup::Disable => ("exhausted", None),
    };
    // First, as a claim locks the webhook before the message.
    if followup == Followup::Disable {
        sqlx::query(DISABLE_WEBHOOK)
            .bind(dispatch.webhook_id.to_string())
            .bind(now.as_millisecond())
            .execute(&mut *connection)
            .await
            .map_err(failed("disable a webhook"))?;
    }
    let done = sqlx::query(SETTLE)
        .bind(signed(dispatch.number))
        .bind(signed(dispatch.claims))
        .bind(state)
        .bind(next.map(Timestamp::as_millisecond))
        .bind(now.as_millisecond())
        .bind(sent.status.map(i64::from))
        .bind(sent.error.map(DeliveryError::as_str))
        .bind(signed(sent.duration_ms))
        .execute(connection)
        .await
        .map_err(failed("store how a message was sent"))?;
    Ok(done.rows_affected() > 0)
}

fn delivery(row: &Row) -> Result<Delivery, StoreError> {
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
