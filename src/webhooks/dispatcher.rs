//! Sends the messages of the outbox.
//!
//! Any number of servers may do this on one database: a message belongs to whoever took it for as long as sending can
//! take, and to anybody after that. So it is sent at least once, every time under the same `webhook-id`.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::client::{Client, Letter};
use super::schedule;
use crate::clock::Clock;
use crate::domain::webhook::{DeliveryError, Sent};
use crate::instruments;
use crate::store::{Dispatch, Followup, Store, StoreError};

/// Messages under way at once. Sixteen webhooks that never answer fill it; a free place goes to one that
/// has none under way.
const AT_ONCE: usize = 64;

/// Messages under way at once to one webhook.
const AT_ONCE_EACH: u32 = 4;

/// How often the outbox is read without a signal: other processes write to it too.
const POLL: Duration = Duration::from_secs(1);

/// How long messages that are under way may take when the server stops.
const DRAIN: Duration = Duration::from_secs(5);

/// Sends messages until it is stopped.
#[derive(Debug)]
pub struct Dispatcher {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    client: Client,
    wake: Arc<Notify>,
}

impl Dispatcher {
    /// `wake` signals that there is something to send.
    pub fn new(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        client: Client,
        wake: Arc<Notify>,
    ) -> Self {
        Self {
            store,
            clock,
            client,
            wake,
        }
    }

    /// Runs until `stop`, then until the messages under way are sent.
    pub async fn run(self, stop: CancellationToken) {
        let this = Arc::new(self);
        let mut sending = JoinSet::new();
        while !stop.is_cancelled() {
            if let Err(error) = this.take(&mut sending).await {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "cannot read the webhooks to send");
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = this.wake.notified() => {}
                () = tokio::time::sleep(POLL) => {}
                Some(_) = sending.join_next() => {}
            }
        }
        let ended = tokio::time::timeout(DRAIN, async {
            while sending.join_next().await.is_some() {}
        });
        if ended.await.is_err() {
            tracing::warn!(
                left = sending.len(),
                "unfinished webhooks are sent again later"
            );
        }
    }

    /// Takes due messages, up to the limit.
    async fn take(self: &Arc<Self>, sending: &mut JoinSet<()>) -> Result<(), StoreError> {
        // Nobody else takes a message while this one may still be sent and its outcome written down.
        let lease = self.client.timeout() * 2;
        while sending.len() < AT_ONCE {
            let Some(dispatch) = self.store.claim_delivery(lease, AT_ONCE_EACH).await? else {
                break;
            };
            let this = Arc::clone(self);
            sending.spawn(async move { this.send(&dispatch).await });
        }
        Ok(())
    }

    async fn send(&self, dispatch: &Dispatch) {
        let letter = Letter {
            url: &dispatch.url,
            id: &dispatch.message_id,
            secrets: &dispatch.secrets,
            timestamp: self.clock.now().as_second(),
            body: &dispatch.payload,
        };
        let sent = self.client.send(&letter).await;
        let followup = followup(&sent, dispatch.attempts);
        let outcome = match followup {
            Followup::Succeeded => "succeeded",
            Followup::Retry(_) => "failed",
            Followup::Exhausted => "exhausted",
            Followup::Disable => "gone",
        };
        metrics::counter!(instruments::WEBHOOK_DELIVERIES, "outcome" => outcome).increment(1);
        tracing::info!(
            webhook.id = %dispatch.webhook_id,
            message.id = dispatch.message_id,
            attempt = dispatch.attempts,
            status = sent.status,
            reason = sent.error.map(DeliveryError::as_str),
            duration_ms = sent.duration_ms,
            outcome,
            "webhook sent"
        );
        match self.store.settle_delivery(dispatch, &sent, followup).await {
            Ok(true) => {}
            Ok(false) => {
                tracing::warn!(
                    message.id = dispatch.message_id,
                    "another server sends this webhook now"
                );
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(
                    error,
                    message.id = dispatch.message_id,
                    "the webhook will be sent again"
                );
            }
        }
    }
}

fn followup(sent: &Sent, attempts: u32) -> Followup {
    match sent.error {
        None => Followup::Succeeded,
        Some(DeliveryError::Gone) => Followup::Disable,
        Some(
            DeliveryError::Timeout
            | DeliveryError::Connection
            | DeliveryError::Forbidden
            | DeliveryError::Redirect
            | DeliveryError::Status,
        ) => schedule::delay_after(attempts).map_or(Followup::Exhausted, Followup::Retry),
    }
}
