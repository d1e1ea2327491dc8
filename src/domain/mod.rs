//! The words of the service: plain data, no I/O, no framework.
//!
//! Everything here can be written as JSON and read back. What a value means is said where its type stands.
//! No two files import each other; a test holds them to it.

pub mod attempt;
mod error_code;
mod hub_reach;
mod id;
pub mod idempotency;
pub mod job;
pub mod queue;
pub mod redact;
mod refusal;
pub mod report;
pub mod spec;
pub mod task_info;
pub mod webhook;
pub mod worker;

pub use crate::engine::{LFS_POINTER, is_lfs_pointer};
pub use error_code::ErrorCode;
pub use hub_reach::{HubReach, HubToken};
pub use id::JobId;
pub use refusal::Refusal;
