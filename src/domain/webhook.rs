//! Webhooks: who is told of what, and how far that is.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::id::JobId;
use super::job::event::EventKind;
use super::job::state::JobState;

/// Most registered webhooks: each of them is a row to write whenever a job's state changes.
pub const MAX_WEBHOOKS: u32 = 50;

/// `wh_` and a version 7 UUID as 32 hexadecimal digits: ids sort by the time of creation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WebhookId(Uuid);

impl WebhookId {
    /// Wraps a fresh version 7 UUID.
    pub fn new(uuid: Uuid) -> Self {
        Self(uuid)
    }
}

impl fmt::Display for WebhookId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "wh_{}", self.0.simple())
    }
}

impl FromStr for WebhookId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let id = text
            .strip_prefix("wh_")
            .and_then(|digits| Uuid::try_parse(digits).ok())
            .map(Self);
        id.filter(|id| id.to_string() == text)
            .ok_or_else(|| format!("{text:?} is not the id of a webhook"))
    }
}

/// What a webhook is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub enum WebhookEvent {
    /// A job waits for a worker: it was accepted, or comes back after an attempt or a pause.
    #[serde(rename = "job.queued")]
    Queued,
    /// A worker took it.
    #[serde(rename = "job.running")]
    Running,
    /// It waits until somebody resumes it.
    #[serde(rename = "job.paused")]
    Paused,
    /// Its artifact can be downloaded.
    #[serde(rename = "job.succeeded")]
    Succeeded,
    /// It ended with an error.
    #[serde(rename = "job.failed")]
    Failed,
    /// It ended because somebody asked for it.
    #[serde(rename = "job.cancelled")]
    Cancelled,
    /// It is gone, with its log and its artifact.
    #[serde(rename = "job.deleted")]
    Deleted,
    /// Nothing happened: somebody tries the webhook.
    #[serde(rename = "webhook.test")]
    Test,
}

impl WebhookEvent {
    /// What a webhook can ask to be told.
    pub const OF_JOBS: [Self; 7] = [
        Self::Queued,
        Self::Running,
        Self::Paused,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
        Self::Deleted,
    ];

    /// The word on the wire and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "job.queued",
            Self::Running => "job.running",
            Self::Paused => "job.paused",
            Self::Succeeded => "job.succeeded",
            Self::Failed => "job.failed",
            Self::Cancelled => "job.cancelled",
            Self::Deleted => "job.deleted",
            Self::Test => "webhook.test",
        }
    }

    /// What is told of an entry of a job's log, if anything.
    pub fn of(kind: &EventKind) -> Option<Self> {
        match kind {
            EventKind::Queued
            | EventKind::Retrying { .. }
            | EventKind::Released
            | EventKind::Continued
            | EventKind::Retried => Some(Self::Queued),
            EventKind::Paused => Some(Self::Paused),
            EventKind::Started { .. } => Some(Self::Running),
            EventKind::Succeeded { .. } => Some(Self::Succeeded),
            EventKind::Failed { .. } => Some(Self::Failed),
            EventKind::Cancelled => Some(Self::Cancelled),
            EventKind::Deleted { .. } => Some(Self::Deleted),
            EventKind::Phase { .. }
            | EventKind::Resumed { .. }
            | EventKind::Pausing
            | EventKind::Cancelling => None,
        }
    }
}

impl FromStr for WebhookEvent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut known = Self::OF_JOBS.into_iter().chain([Self::Test]);
        let found = known.find(|event| event.as_str() == text);
        found.ok_or_else(|| {
            format!(
                "unknown event {text:?}, expected one of {}",
                Self::OF_JOBS.map(Self::as_str).join(", ")
            )
        })
    }
}

/// What the messages to a webhook are signed with: `whsec_` and the key in Base64. Kept as it is, since a digest of it
/// could sign nothing, and shown once.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps the whole text.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// For whoever signs, stores, or shows it once.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Somebody who wants to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
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
    /// The secret before that one, and until when messages are signed with it too.
    pub previous: Option<(Secret, Timestamp)>,
    /// Since when nothing is sent, because the receiver said that it is gone.
    pub disabled_at: Option<Timestamp>,
    /// When it was registered.
    pub created_at: Timestamp,
}

/// Where a message is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// Will be sent, for the first time or again.
    Pending,
    /// The receiver took it.
    Succeeded,
    /// Every attempt failed, or the receiver is gone.
    Exhausted,
}

impl DeliveryState {
    /// The word on the wire and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Succeeded => "succeeded",
            Self::Exhausted => "exhausted",
        }
    }
}

impl FromStr for DeliveryState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::Pending, Self::Succeeded, Self::Exhausted];
        let found = all.into_iter().find(|state| state.as_str() == text);
        found.ok_or_else(|| format!("unknown state of a delivery {text:?}"))
    }
}

/// Why an attempt to send a message failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryError {
    /// The receiver did not answer in time.
    Timeout,
    /// No connection, or it broke.
    Connection,
    /// The URL, or every address that its host has, is one that nothing is sent to.
    Forbidden,
    /// The receiver sent somewhere else, where nobody goes.
    Redirect,
    /// The receiver answered with another status than 2xx.
    Status,
    /// The receiver answered 410, and its webhook was disabled.
    Gone,
}

impl DeliveryError {
    /// The word on the wire and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Connection => "connection",
            Self::Forbidden => "forbidden",
            Self::Redirect => "redirect",
            Self::Status => "status",
            Self::Gone => "gone",
        }
    }
}

/// How an attempt to send a message went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// What the receiver answered.
    pub status: Option<u16>,
    /// Why that was no success; `None` = it was.
    pub error: Option<DeliveryError>,
    /// How long it took.
    pub duration_ms: u64,
}

/// The record of one message to one webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Grows with every message.
    pub number: u64,
    /// The `webhook-id` of every attempt to send it.
    pub message_id: String,
    /// What it tells.
    pub event: WebhookEvent,
    /// The job that it tells it of.
    pub job_id: Option<JobId>,
    /// Where it is in its life.
    pub state: DeliveryState,
    /// How often it was sent, since it was last asked for.
    pub attempts: u32,
    /// When it is sent next.
    pub next_attempt_at: Option<Timestamp>,
    /// When it was sent last, and how that went.
    pub last: Option<(Timestamp, Sent)>,
    /// When it was written.
    pub created_at: Timestamp,
}

/// The job as a message tells it: where it is, and enough to put messages into their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobMark {
    /// The job.
    pub id: JobId,
    /// Its state after what happened.
    pub state: JobState,
    /// Its version then.
    pub version: u64,
    /// The number of the entry in its log.
    pub seq: u64,
    /// Its attempt then.
    pub attempt: u32,
}

impl JobMark {
    /// The message's id: the same for every webhook and every attempt.
    pub fn message_id(&self) -> String {
        let id = self.id.to_string();
        let digits = id.trim_start_matches("job_");
        format!("msg_{digits}_{}", self.seq)
    }

    /// The body of the message: what happened and where to look, not what was computed.
    pub fn payload(&self, event: WebhookEvent, at: Timestamp) -> String {
        let payload = json!({
            "type": event,
            "timestamp": at,
            "data": {
                "job_id": self.id,
                "status": self.state,
                "version": self.version,
                "seq": self.seq,
                "attempt": self.attempt,
            },
        });
        payload.to_string()
    }
}

/// The body of a message that tells nothing.
pub fn test_payload(id: WebhookId, at: Timestamp) -> String {
    let payload = json!({
        "type": WebhookEvent::Test,
        "timestamp": at,
        "data": {"webhook_id": id.to_string()},
    });
    payload.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_are_the_words_on_the_wire() {
        for event in WebhookEvent::OF_JOBS
            .into_iter()
            .chain([WebhookEvent::Test])
        {
            assert_eq!(json!(event), json!(event.as_str()));
            assert_eq!(event.as_str().parse(), Ok(event));
        }
        for state in ["pending", "succeeded", "exhausted"] {
            let parsed: DeliveryState = state.parse().unwrap();
            assert_eq!(json!(parsed), json!(state));
        }
        assert_eq!(
            json!(DeliveryError::Gone),
            json!(DeliveryError::Gone.as_str())
        );
    }

    #[test]
    fn a_secret_is_not_written_by_accident() {
        let secret = Secret::new("whsec_abc".to_owned());
        assert_eq!(format!("{secret:?}"), "Secret");
    }

    #[test]
    fn a_webhook_id_has_one_spelling() {
        let text = "wh_019abcde0123789a8bcdef0123456789";
        assert_eq!(text.parse::<WebhookId>().unwrap().to_string(), text);
        for wrong in ["wh_", "job_019abcde0123789a8bcdef0123456789", "wh_../x"] {
            assert!(wrong.parse::<WebhookId>().is_err(), "{wrong}");
        }
    }
}
