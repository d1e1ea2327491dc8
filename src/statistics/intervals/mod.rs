//! Intervals and tests: how far a number would move with other documents.

pub(super) mod bootstrap;
pub(super) mod mcnemar;
mod normal;
pub(super) mod random;
pub(super) mod score_interval;
