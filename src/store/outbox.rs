//! What the database keeps of webhooks: who is told, and what is to be sent.

use std::time::Duration;

use super::StoreFuture;
use crate::domain::webhook::{Delivery, Secret, Sent, Webhook, WebhookEvent, WebhookId};

/// A webhook that is to be registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewWebhook {
    /// Its id.
    pub id: WebhookId,
    /// Where the messages go.
    pub url: String,
    /// What its owner says about it.
    pub description: Option<String>,
    /// What it wants to be told.
    pub events: Vec<WebhookEvent>,
    /// What its messages are signed with.
    pub secret: Secret,
}

/// What somebody may ask of a webhook that only an enabled one does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked<T> {
    /// It is done.
    Done(T),
    /// There is no such webhook.
    Unknown,
    /// Nothing is sent to it.
    Disabled,
}

/// A message that the caller, and nobody else for a while, shall send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dispatch {
    /// Its number.
    pub number: u64,
    /// The fencing token: how often it was taken.
    pub claims: u64,
    /// How often it was sent, this time included.
    pub attempts: u32,
    /// Its `webhook-id`.
    pub message_id: String,
    /// Its body.
    pub payload: String,
    /// The webhook.
    pub webhook_id: WebhookId,
    /// Where it goes.
    pub url: String,
    /// What it is signed with, one signature for each.
    pub secrets: Vec<Secret>,
}

/// What follows from an attempt to send a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Followup {
    /// The receiver took it.
    Succeeded,
    /// It is sent again after this long.
    Retry(Duration),
    /// It is not sent again.
    Exhausted,
    /// The same, and nothing else is sent there any more.
    Disable,
}

/// What is to be sent when a job changes is written with the change, and sent afterwards.
pub trait Outbox {
    /// Registers a webhook, unless there are [`MAX_WEBHOOKS`](crate::domain::webhook::MAX_WEBHOOKS): `None`.
    fn insert_webhook<'a>(&'a self, webhook: &'a NewWebhook) -> StoreFuture<'a, Option<Webhook>>;

    /// Every webhook, oldest first.
    fn list_webhooks(&self) -> StoreFuture<'_, Vec<Webhook>>;

    /// One webhook.
    fn lookup_webhook(&self, id: WebhookId) -> StoreFuture<'_, Option<Webhook>>;

    /// Removes a webhook and everything that was or would be sent there. Whether there was one.
    fn delete_webhook(&self, id: WebhookId) -> StoreFuture<'_, bool>;

    /// Gives a webhook a new secret; the one that it has goes on being used beside it for `overlap`.
    fn replace_secret<'a>(
        &'a self,
        id: WebhookId,
        secret: &'a Secret,
        overlap: Duration,
    ) -> StoreFuture<'a, Option<Webhook>>;

    /// Sends to a webhook again that was disabled.
    fn enable_webhook(&self, id: WebhookId) -> StoreFuture<'_, Option<Webhook>>;

    /// Writes a message that tells nothing.
    fn insert_test<'a>(
        &'a self,
        id: WebhookId,
        message_id: &'a str,
    ) -> StoreFuture<'a, Asked<Delivery>>;

    /// The messages to a webhook, newest first, at most `limit`, only those with a lower number than `before`.
    fn list_deliveries(
        &self,
        id: WebhookId,
        before: Option<u64>,
        limit: u32,
    ) -> StoreFuture<'_, Vec<Delivery>>;

    /// Sends a message at once, as if for the first time unless it is waiting anyway. `Done(None)` = there is none.
    fn redeliver<'a>(
        &'a self,
        id: WebhookId,
        message_id: &'a str,
    ) -> StoreFuture<'a, Asked<Option<Delivery>>>;

    /// Hands out a message, to be sent within `lease`: the one that is due for longest of the webhook that has the fewest
    /// under way, and fewer than `at_once`. However many wait for one that never answers, they keep no other waiting.
    fn claim_delivery(&self, lease: Duration, at_once: u32) -> StoreFuture<'_, Option<Dispatch>>;

    /// Writes down how it went. `false` = somebody else has it by now, and nothing was written.
    fn settle_delivery<'a>(
        &'a self,
        dispatch: &'a Dispatch,
        sent: &'a Sent,
        followup: Followup,
    ) -> StoreFuture<'a, bool>;

    /// Number of messages that are still to be sent: those of disabled webhooks are not.
    fn count_pending_deliveries(&self) -> StoreFuture<'_, u64>;

    /// Forgets the messages that were written longer ago than `age` and are over, or wait for a webhook to be enabled, and
    /// those of webhooks that are gone. Gives their number.
    fn forget_deliveries(&self, age: Duration) -> StoreFuture<'_, u64>;
}
