//! The words of the service: plain data, no I/O, no framework.
//!
//! Everything here can be written as JSON and read back. What a value means is said where its type stands.

pub mod attempt;
pub mod code;
pub mod comparison;
pub mod evaluation;
pub mod guard;
pub mod history;
pub mod hub_name;
mod hub_reach;
pub mod idempotency;
pub mod job;
pub mod job_spec;
pub mod manifest;
pub mod memory;
pub mod protocol;
pub mod queue;
pub mod redact;
mod refusal;
pub mod repetition;
pub mod request;
pub mod results;
pub mod scheduling;
pub mod spec;
pub mod state;
pub mod task_info;
pub mod webhook;
pub mod worker;

pub use attempt::{AttemptFailure, AttemptMessage, AttemptSpec};
pub use code::ErrorCode;
pub use hub_reach::HubReach;
pub use job::{Job, JobId};
pub use job_spec::{JobSpec, JobType};
pub use manifest::{JobReport, Manifest};
pub use refusal::Refusal;
pub use spec::{Method, ModelRef, Pattern, PruneSpec};
pub use state::JobState;
