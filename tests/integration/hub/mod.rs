//! What comes from the hub.

pub(crate) mod datasets;
pub(crate) mod models;
mod outage;
pub(crate) mod to_artifact;
pub(crate) mod token;
mod unreachable;
