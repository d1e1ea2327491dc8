//! Writes answers: jobs, results and problems as clients see them.

pub(super) mod job;
pub(super) mod problem;
pub(super) mod results;
mod turn;
pub(super) mod waiting;
