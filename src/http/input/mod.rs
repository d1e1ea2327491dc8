//! Reads requests: bodies, paths, parameters and headers, with every mistake told at once.

pub(super) mod body;
pub(super) mod body_schema;
pub(super) mod conditional;
mod duplicates;
pub(super) mod idempotency;
pub(super) mod path;
pub(super) mod preferences;
pub(super) mod query;
