//! What comes from the hub.

mod caches;
pub(crate) mod datasets;
mod looks;
pub(crate) mod models;
mod outage;
mod refusals;
mod submission;
pub(crate) mod to_artifact;
pub(crate) mod token;
mod unreachable;
