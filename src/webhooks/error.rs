//! Why a use-case of webhooks fails.

use std::io;

use crate::domain::ErrorCode;
use crate::domain::webhook::{MAX_WEBHOOKS, WebhookId};
use crate::request::FieldError;
use crate::store::StoreError;

/// Why a use-case of webhooks fails.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The body has wrong fields; all of them are listed.
    #[error("the request has {} wrong {}", .0.len(), if .0.len() == 1 { "field" } else { "fields" })]
    Invalid(Vec<FieldError>),
    /// No such webhook.
    #[error("no webhook has the id {0}")]
    NotFound(WebhookId),
    /// No such message to this webhook.
    #[error("the webhook {webhook} has no delivery {message:?}")]
    DeliveryNotFound {
        /// The webhook.
        webhook: WebhookId,
        /// The message in the request.
        message: String,
    },
    /// Nothing is sent there.
    #[error("the webhook {0} is disabled, enable it first")]
    Disabled(WebhookId),
    /// The most webhooks are registered.
    #[error("there are {MAX_WEBHOOKS} webhooks already, delete one first")]
    TooMany,
    /// No secret could be made.
    #[error("cannot read random bytes")]
    Random(#[source] io::Error),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Error {
    /// The stable reason, for clients.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Invalid(_) => ErrorCode::InvalidRequest,
            Self::NotFound(_) => ErrorCode::WebhookNotFound,
            Self::DeliveryNotFound { .. } => ErrorCode::DeliveryNotFound,
            Self::Disabled(_) => ErrorCode::WebhookDisabled,
            Self::TooMany => ErrorCode::TooManyWebhooks,
            Self::Store(error) if error.is_transient() => ErrorCode::Unavailable,
            Self::Random(_) | Self::Store(_) => ErrorCode::Internal,
        }
    }

    /// Whether only the log gets the message: it is about the service, not the request.
    pub fn is_hidden(&self) -> bool {
        matches!(self.code(), ErrorCode::Unavailable | ErrorCode::Internal)
    }
}
