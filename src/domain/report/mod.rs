//! What came out of a job.

pub mod manifest;
pub mod protocol;
pub mod results;
