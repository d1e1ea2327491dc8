//! Writes answers: jobs, results and problems as clients see them.

pub(super) mod job;
pub(super) mod problem;
pub(super) mod progress;
pub(super) mod results;
pub(super) mod turn;
pub(super) mod waiting;
