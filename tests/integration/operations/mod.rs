//! What operators do and see.

pub(crate) mod probes;
mod retention;
pub(crate) mod start_up;
mod storage;
pub(crate) mod traces;
