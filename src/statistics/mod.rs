//! Means, standard errors and paired differences: pure functions of per-document scores.
//!
//! The documents of a task are taken as a random sample of the documents that it could have had; every standard error
//! and interval here says how far the number would move with another sample. Two models are compared document by
//! document, as the documents differ far more among each other than the models do.
//!
//! | of | estimate | paired difference |
//! | --- | --- | --- |
//! | right or wrong | [`Answers`] | [`PairedAnswers`]: score interval, McNemar's test |
//! | nats per document | [`losses_estimate`] | [`PairedLosses`]: bootstrap |
//! | mean over tasks | [`mean_of_one`] | [`mean_of_pairs`]: score interval over strata |
//!
//! A difference is only formed from scores of one protocol.

mod answers;
mod divergence;
mod estimate;
pub mod guard;
mod intervals;
mod losses;
mod repetition;
mod scored;
mod task_mean;

#[cfg(test)]
mod coverage;
#[cfg(test)]
mod fixture;

pub use answers::{Answers, PairedAnswers};
pub use divergence::divergence;
pub use estimate::{mean, proportion};
pub use losses::{Loss, PairedLosses, losses_estimate};
pub use repetition::repetition;
pub use scored::Scored;
pub use task_mean::{mean_of_one, mean_of_pairs};
