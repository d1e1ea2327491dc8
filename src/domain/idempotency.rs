//! Requests that a client may repeat without doing their work twice.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::domain::JobId;

/// How long a key is remembered.
pub const LIFETIME: Duration = Duration::from_hours(24);

/// Most characters of a key.
const MAX_CHARS: usize = 255;

/// What a client calls a request: 1 to 255 visible ASCII characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// The key as it was sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for IdempotencyKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_key =
            (1..=MAX_CHARS).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        if is_key {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!(
                "expected 1 to {MAX_CHARS} visible ASCII characters"
            ))
        }
    }
}

/// What becomes of a submission whose work an earlier job does or has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnDuplicate {
    /// Another job.
    #[default]
    New,
    /// The earlier job is the answer.
    Return,
}

impl OnDuplicate {
    /// Every choice.
    pub const ALL: [Self; 2] = [Self::New, Self::Return];

    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Return => "return",
        }
    }
}

/// A request under its key, and what tells it from another one under the same key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyedRequest {
    /// The route; a key means nothing on another one.
    pub scope: &'static str,
    /// What the client calls it.
    pub key: IdempotencyKey,
    /// What it asks for.
    pub fingerprint: Fingerprint,
}

impl KeyedRequest {
    /// A request for `body`.
    pub fn new(scope: &'static str, key: IdempotencyKey, body: &Value) -> Self {
        Self {
            scope,
            key,
            fingerprint: Fingerprint::of(body),
        }
    }
}

/// SHA-256 of a body, in hexadecimal digits. Neither the order of the fields nor the space between them counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint(String);

impl Fingerprint {
    /// That of a body.
    pub fn of(body: &Value) -> Self {
        // `Value` keeps the fields of an object sorted by their names.
        Self(hex::encode(Sha256::digest(body.to_string())))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The answer to a submission, kept so that a repetition gets the same bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "StoredReply")]
pub struct Reply {
    /// The accepted job.
    pub job_id: JobId,
    /// Its version then.
    pub version: u64,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// The body.
    pub body: String,
}

/// A reply as this version stores it, or as the one before does, which may still run beside it.
#[derive(Deserialize)]
#[serde(untagged)]
enum StoredReply {
    Now {
        job_id: JobId,
        version: u64,
        #[serde(default)]
        created_at: Timestamp,
        body: String,
    },
    Before {
        headers: ReplyHeaders,
        body: String,
    },
}

#[derive(Deserialize)]
struct ReplyHeaders {
    location: String,
    etag: String,
}

impl TryFrom<StoredReply> for Reply {
    type Error = String;

    fn try_from(stored: StoredReply) -> Result<Self, String> {
        match stored {
            StoredReply::Now {
                job_id,
                version,
                created_at,
                body,
            } => Ok(Self {
                job_id,
                version,
                created_at,
                body,
            }),
            StoredReply::Before { headers, body } => {
                let id = headers.location.rsplit('/').next().unwrap_or_default();
                let version = headers.etag.trim_matches('"').parse();
                let version = version.map_err(|error| format!("the etag of a reply: {error}"))?;
                Ok(Self {
                    job_id: id.parse()?,
                    version,
                    created_at: Timestamp::default(),
                    body,
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_key_is_visible_ascii() {
        for text in ["a", "!~", &"k".repeat(255)] {
            assert_eq!(text.parse::<IdempotencyKey>().unwrap().as_str(), text);
        }
        for text in ["", " ", "a b", "a\t", "é", "\u{7f}", &"k".repeat(256)] {
            assert!(text.parse::<IdempotencyKey>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_order_of_fields_does_not_count_and_everything_else_does() {
        let of = |text: &str| Fingerprint::of(&serde_json::from_str(text).unwrap());
        let first = of(r#"{"a": 1, "b": {"c": [1, 2], "d": null}}"#);
        assert_eq!(first, of(r#"{"b":{"d":null,"c":[1,2]},"a":1}"#));
        for other in [
            r#"{"a": 1, "b": {"c": [2, 1], "d": null}}"#,
            r#"{"a": 1, "b": {"c": [1, 2]}}"#,
            r#"{"a": "1", "b": {"c": [1, 2], "d": null}}"#,
        ] {
            assert_ne!(first, of(other), "{other}");
        }
        assert_eq!(Fingerprint::of(&json!({})).to_string().len(), 64);
    }
}
