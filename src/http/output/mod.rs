//! What answers are made of: jobs and results as clients see them, and answers that are held back.

pub(super) mod job;
pub(super) mod problem;
pub(super) mod results;
mod turn;
pub(super) mod waiting;
