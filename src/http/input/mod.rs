//! Reads requests: bodies, paths, parameters and headers, with every mistake told at once.

pub(super) mod body_schema;
pub(super) mod conditional;
mod duplicates;
pub(super) mod extract;
pub(super) mod idempotency;
pub(super) mod preferences;
