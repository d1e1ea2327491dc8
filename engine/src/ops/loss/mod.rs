//! From logits to losses, row by row, without a tensor of probabilities.

mod divergence;
mod log_probability;
mod nll;
pub(super) mod softmax_row;

pub use divergence::{PairedPrediction, paired_predictions};
pub use log_probability::{Target, TokenScore, log_probabilities};
pub use nll::negative_log_likelihoods;
