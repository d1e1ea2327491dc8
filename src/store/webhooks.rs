//! Webhooks, and the outbox of deliveries to them.

use std::time::Duration;

use super::StoreFuture;
use crate::domain::webhook::{Delivery, Secret, Sent, Webhook, WebhookEvent, WebhookId};

/// A webhook to register.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewWebhook {
    /// Its id.
    pub id: WebhookId,
    /// Where the messages go.
    pub url: String,
    /// Its owner's description.
    pub description: Option<String>,
    /// The events that it receives.
    pub events: Vec<WebhookEvent>,
    /// The secret that signs its messages.
    pub secret: Secret,
}

/// Changes to a webhook; what is `None` stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChangedWebhook {
    /// Where the messages go.
    pub url: Option<String>,
    /// Its owner's description.
    pub description: Option<String>,
    /// The events that it receives.
    pub events: Option<Vec<WebhookEvent>>,
    /// Whether anything is sent.
    pub enabled: Option<bool>,
}

/// The result of an operation that only an enabled webhook does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked<T> {
    /// It is done.
    Done(T),
    /// There is no such webhook.
    Unknown,
    /// Nothing is sent to it.
    Disabled,
}

/// A message claimed by the caller, to be sent now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dispatch {
    /// Its number.
    pub number: u64,
    /// The fencing token: how often it was claimed.
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
    /// The secrets that sign it, one signature each.
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
    /// It is not sent again, and the webhook is disabled.
    Disable,
}

/// Registers webhooks.
pub trait WebhookStore {
    /// Registers a webhook; `None` where there are [`MAX_WEBHOOKS`](crate::domain::webhook::MAX_WEBHOOKS) already.
    fn insert_webhook<'a>(&'a self, webhook: &'a NewWebhook) -> StoreFuture<'a, Option<Webhook>>;

    /// Lists every webhook, oldest first.
    fn list_webhooks(&self) -> StoreFuture<'_, Vec<Webhook>>;

    /// Reads one webhook.
    fn lookup_webhook(&self, id: WebhookId) -> StoreFuture<'_, Option<Webhook>>;

    /// Removes a webhook and all its deliveries. Gives whether it existed.
    fn delete_webhook(&self, id: WebhookId) -> StoreFuture<'_, bool>;

    /// Gives a webhook a new secret; the old one signs beside it for `overlap`.
    fn replace_secret<'a>(
        &'a self,
        id: WebhookId,
        secret: &'a Secret,
        overlap: Duration,
    ) -> StoreFuture<'a, Option<Webhook>>;

    /// Enables a webhook that was disabled.
    fn enable_webhook(&self, id: WebhookId) -> StoreFuture<'_, Option<Webhook>>;

    /// Changes a webhook.
    fn change_webhook<'a>(
        &'a self,
        id: WebhookId,
        change: &'a ChangedWebhook,
    ) -> StoreFuture<'a, Option<Webhook>>;
}

/// The outbox: deliveries are written in the transaction that changes their job, and sent afterwards.
pub trait DeliveryStore {
    /// Writes a test message.
    fn insert_test<'a>(
        &'a self,
        id: WebhookId,
        message_id: &'a str,
    ) -> StoreFuture<'a, Asked<Delivery>>;

    /// Lists the deliveries to a webhook, newest first, at most `limit`, only those with a number below `before`.
    fn list_deliveries(
        &self,
        id: WebhookId,
        before: Option<u64>,
        limit: u32,
    ) -> StoreFuture<'_, Vec<Delivery>>;

    /// Makes a delivery due now, with all its attempts unless it is pending. `Done(None)` where it does not exist.
    fn redeliver<'a>(
        &'a self,
        id: WebhookId,
        message_id: &'a str,
    ) -> StoreFuture<'a, Asked<Option<Delivery>>>;

    /// Claims a delivery for `lease`: the one that is due longest, of the webhook with the fewest under way and fewer than
    /// `at_once`. A webhook that never answers does not delay the others.
    fn claim_delivery(&self, lease: Duration, at_once: u32) -> StoreFuture<'_, Option<Dispatch>>;

    /// Records how a delivery went. `false` where the claim was lost, and nothing was written.
    fn settle_delivery<'a>(
        &'a self,
        dispatch: &'a Dispatch,
        sent: &'a Sent,
        followup: Followup,
    ) -> StoreFuture<'a, bool>;

    /// Counts the pending deliveries of enabled webhooks.
    fn count_pending_deliveries(&self) -> StoreFuture<'_, u64>;

    /// Forgets deliveries written longer ago than `age` that are over or whose webhook is disabled, and those of deleted
    /// webhooks. Gives their number.
    fn forget_deliveries(&self, age: Duration) -> StoreFuture<'_, u64>;
}
