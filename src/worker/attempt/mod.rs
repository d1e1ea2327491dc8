//! One attempt at a job: its process, what it needs beforehand, and its resume state.

mod active;
mod child;
mod resume;
mod sources;
mod supervisor;
mod upload;

pub(super) use active::{ActiveJob, ActiveJobs};
pub(super) use resume::{discard, remove};
pub(super) use supervisor::{deadline, supervise};
