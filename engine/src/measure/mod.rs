//! What a model says of token ids: losses, likelihoods, divergences, continuations.
//!
//! Batches pass through all blocks; each block is read once for all of them, or stays resident where it fits.

mod divergence;
mod forward;
mod generate;
mod kv_cache;
mod log_likelihood;
mod pace;
mod perplexity;
mod resident_blocks;
mod token_tree;

pub use divergence::{Divergence, divergence, divergences};
pub use forward::{LOGITS_BYTES, WAVE_BYTES};
pub use generate::{GenerateOptions, Generation, GenerationEnd, Stop, generate};
pub use log_likelihood::{LogLikelihood, ScoredSequence, log_likelihoods};
pub use pace::tokens_per_second;
pub use perplexity::{Perplexity, perplexity};
pub use resident_blocks::ResidentBlocks;

#[cfg(test)]
mod tests;
