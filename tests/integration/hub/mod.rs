//! What comes from the hub.

pub(crate) mod datasets;
pub(crate) mod models;
pub(crate) mod to_artifact;
pub(crate) mod token;
mod unreachable;
