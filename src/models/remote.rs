//! Models of the hub, before anything but their description is fetched.

use futures::future::BoxFuture;

use crate::domain::ErrorCode;
use crate::engine::ModelPlan;

/// A model of the hub that was not fetched.
#[derive(Debug, Clone, PartialEq)]
pub struct RemoteModel {
    /// The commit that its revision stands for, 40 hexadecimal digits.
    pub commit: String,
    /// What it is made of.
    pub plan: ModelPlan,
    /// Bytes of the files that a job fetches.
    pub size_bytes: u64,
    /// Bytes of those that the cache of this machine lacks.
    pub missing_bytes: u64,
}

/// Why nothing is known of a model of the hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoRemoteModel {
    /// It cannot be used: the stable reason, and the facts.
    Refused(ErrorCode, String),
    /// The hub did not tell, for this reason.
    Unknown(String),
}

/// Asks the hub for the description of models.
pub trait ModelHub: std::fmt::Debug + Send + Sync {
    /// Asks within a few seconds, and fetches nothing else. `needs_tokens`: the model must have a tokenizer.
    fn look<'a>(
        &'a self,
        id: &'a str,
        revision: &'a str,
        needs_tokens: bool,
    ) -> BoxFuture<'a, Result<RemoteModel, NoRemoteModel>>;
}
