//! Registers webhooks and sends to them (Standard Webhooks 1.0).
//!
//! What is to be sent is written by the store, in the transaction that changes a job; the [`Dispatcher`] sends it.

mod client;
mod dispatcher;
mod error;
mod policy;
mod schedule;
mod signature;

use std::fs::File;
use std::io::{self, Read as _};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::Notify;
use uuid::{NoContext, Uuid};

use crate::clock::Clock;
use crate::domain::webhook::{Delivery, Secret, Webhook, WebhookId};
use crate::request::{FieldError, WebhookChange, WebhookRequest};
use crate::store::{Asked, ChangedWebhook, NewWebhook, Store};

pub use client::{Client, ClientError};
pub use dispatcher::Dispatcher;
pub use error::Error;
pub use policy::{Forbidden, Policy};

/// How long messages are signed with the secret before, after it was replaced.
const OVERLAP: Duration = Duration::from_hours(24);

/// The use-cases. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Webhooks {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    policy: Policy,
    wake: Arc<Notify>,
}

/// A page of a webhook's messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryPage {
    /// Newest first.
    pub deliveries: Vec<Delivery>,
    /// Where the next page begins; `None` on the last one.
    pub next: Option<u64>,
}

impl Webhooks {
    /// `wake` is the dispatcher's.
    pub fn new(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        policy: Policy,
        wake: Arc<Notify>,
    ) -> Self {
        Self {
            store,
            clock,
            policy,
            wake,
        }
    }

    /// Registers a webhook. Its secret is in the answer, and in no later one.
    pub async fn register(&self, body: &Value) -> Result<Webhook, Error> {
        let request = WebhookRequest::parse(body).map_err(Error::Invalid)?;
        let webhook = NewWebhook {
            id: WebhookId::new(self.mint()),
            url: self.checked_url(&request.url)?,
            description: request.description,
            events: request.events,
            secret: new_secret().map_err(Error::Random)?,
        };
        let stored = self.store.insert_webhook(&webhook).await?;
        let stored = stored.ok_or(Error::TooMany)?;
        tracing::info!(webhook.id = %stored.id, "webhook registered");
        Ok(stored)
    }

    fn checked_url(&self, url: &str) -> Result<String, Error> {
        let checked = self.policy.check_url(url).map_err(|forbidden| {
            Error::Invalid(vec![FieldError {
                pointer: "/url".to_owned(),
                code: "forbidden_url",
                detail: forbidden.to_string(),
            }])
        });
        checked.map(String::from)
    }

    /// Changes a webhook.
    pub async fn change(&self, id: WebhookId, body: &Value) -> Result<Webhook, Error> {
        let request = WebhookChange::parse(body).map_err(Error::Invalid)?;
        let url = request.url.map(|url| self.checked_url(&url)).transpose()?;
        let change = ChangedWebhook {
            url,
            description: request.description,
            events: request.events,
            enabled: request.enabled,
        };
        let changed = self.store.change_webhook(id, &change).await?;
        self.wake.notify_one();
        changed.ok_or(Error::NotFound(id))
    }

    fn mint(&self) -> Uuid {
        let now = self.clock.now();
        let seconds = u64::try_from(now.as_second()).unwrap_or_default();
        let nanos = u32::try_from(now.subsec_nanosecond()).unwrap_or_default();
        Uuid::new_v7(uuid::Timestamp::from_unix(NoContext, seconds, nanos))
    }

    /// Every webhook, oldest first.
    pub async fn list(&self) -> Result<Vec<Webhook>, Error> {
        Ok(self.store.list_webhooks().await?)
    }

    /// One webhook.
    pub async fn get(&self, id: WebhookId) -> Result<Webhook, Error> {
        let found = self.store.lookup_webhook(id).await?;
        found.ok_or(Error::NotFound(id))
    }

    /// Removes a webhook, its messages with it.
    pub async fn delete(&self, id: WebhookId) -> Result<(), Error> {
        if !self.store.delete_webhook(id).await? {
            return Err(Error::NotFound(id));
        }
        tracing::info!(webhook.id = %id, "webhook deleted");
        Ok(())
    }

    /// Replaces the secret; for a day messages are signed with both.
    pub async fn rotate_secret(&self, id: WebhookId) -> Result<Webhook, Error> {
        let secret = new_secret().map_err(Error::Random)?;
        let replaced = self.store.replace_secret(id, &secret, OVERLAP).await?;
        replaced.ok_or(Error::NotFound(id))
    }

    /// Sends to a disabled webhook again, what waited for it first.
    pub async fn enable(&self, id: WebhookId) -> Result<Webhook, Error> {
        let enabled = self.store.enable_webhook(id).await?;
        self.wake.notify_one();
        enabled.ok_or(Error::NotFound(id))
    }

    /// Sends a test message.
    pub async fn test(&self, id: WebhookId) -> Result<Delivery, Error> {
        let message_id = format!("msg_test_{}", self.mint().simple());
        let asked = self.store.insert_test(id, &message_id).await?;
        self.wake.notify_one();
        done(id, asked)
    }

    /// A page of the messages to a webhook, newest first, that begins after `before`.
    pub async fn deliveries(
        &self,
        id: WebhookId,
        before: Option<u64>,
        limit: u32,
    ) -> Result<DeliveryPage, Error> {
        self.get(id).await?;
        // One more than asked tells whether there is a next page.
        let mut deliveries = self.store.list_deliveries(id, before, limit + 1).await?;
        let has_more = deliveries.len() > limit as usize;
        deliveries.truncate(limit as usize);
        let last = deliveries.last().map(|delivery| delivery.number);
        let next = last.filter(|_| has_more);
        Ok(DeliveryPage { deliveries, next })
    }

    /// Number of messages that are still to be sent; those that wait for a webhook to be enabled are not among them.
    pub async fn count_pending(&self) -> Result<u64, Error> {
        Ok(self.store.count_pending_deliveries().await?)
    }

    /// Sends a message again at once.
    pub async fn redeliver(&self, id: WebhookId, message: &str) -> Result<Delivery, Error> {
        let not_found = || Error::DeliveryNotFound {
            webhook: id,
            message: message.to_owned(),
        };
        // No stored id has this character, and PostgreSQL takes no text that has it.
        if message.contains('\0') {
            return Err(not_found());
        }
        let asked = self.store.redeliver(id, message).await?;
        self.wake.notify_one();
        done(id, asked)?.ok_or_else(not_found)
    }
}

fn done<T>(id: WebhookId, asked: Asked<T>) -> Result<T, Error> {
    match asked {
        Asked::Done(done) => Ok(done),
        Asked::Unknown => Err(Error::NotFound(id)),
        Asked::Disabled => Err(Error::Disabled(id)),
    }
}

/// 256 bits from the system.
fn new_secret() -> io::Result<Secret> {
    let mut key = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut key)?;
    Ok(signature::secret(&key))
}
