//! The commands. Each has its arguments and a `run` that reads from top to bottom.

pub mod healthcheck;
pub mod migrate;
pub mod openapi;
pub mod serve;
mod signals;
pub mod worker;
