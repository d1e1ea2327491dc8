//! What clients ask over HTTP, and what they get.

pub(crate) mod actions;
pub(crate) mod errors;
pub(crate) mod evaluations;
pub(crate) mod idempotency;
pub(crate) mod jobs;
pub(crate) mod queue;
pub(crate) mod results;
pub(crate) mod streams;
pub(crate) mod strict;
pub(crate) mod validate;
pub(crate) mod waiting;
