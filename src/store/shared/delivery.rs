//! The steps of sending a message: it is taken, and it is written down how that went.

use jiff::Timestamp;

use super::row::Columns;
use super::{Connection, Row, dialect, signed, sql};
use crate::domain::webhook::{DeliveryError, Secret, Sent};
use crate::store::{Dispatch, Followup, StoreError, failed};

/// Takes the oldest message of the webhook whose turn it is.
pub(super) async fn claim(
    connection: &mut Connection,
    now: Timestamp,
    until: Timestamp,
    at_once: u32,
) -> Result<Option<Dispatch>, StoreError> {
    loop {
        let picked = sqlx::query(dialect::PICK_WEBHOOK)
            .bind(now.as_millisecond())
            .bind(i64::from(at_once))
            .fetch_optional(&mut *connection)
            .await
            .map_err(failed("pick a webhook"))?;
        let Some(webhook) = picked else {
            return Ok(None);
        };
        let columns = Columns::new(&webhook, "webhooks");
        let claimed = sqlx::query(sql::CLAIM_DELIVERY)
            .bind(columns.get::<String>("id")?)
            .bind(now.as_millisecond())
            .bind(until.as_millisecond())
            .bind(i64::from(at_once))
            .fetch_optional(&mut *connection)
            .await
            .map_err(failed("take a message"))?;
        // Somebody else took it meanwhile.
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
pub(super) async fn settle(
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
        sqlx::query(sql::DISABLE_WEBHOOK)
            .bind(dispatch.webhook_id.to_string())
            .bind(now.as_millisecond())
            .execute(&mut *connection)
            .await
            .map_err(failed("disable a webhook"))?;
    }
    let done = sqlx::query(sql::SETTLE_DELIVERY)
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
