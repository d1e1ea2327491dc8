//! A synchronous, deterministic library that prunes the decoder blocks of a language model, one block at a time.
//!
//! It knows nothing of jobs, HTTP or databases.
//!
//! For each block, in order: forward the calibration windows through the dense block and observe the inputs of its
//! linears, prune these by a [`Method`] of the table [`METHODS`], forward the windows again through the pruned
//! block; that output is the next block's input. One block is resident at a time: it is read from the source
//! checkpoint and its pruned linears are written into a copy of that checkpoint, tensor by tensor.
//!
//! # Words
//!
//! - *block*: one decoder layer; *linear*: one weight matrix `[d_out, d_in]`
//! - *sparsity*: fraction of zeros, in [0, 1)
//! - *window*: `seq_len` token ids; `n_samples` of them are the calibration set
//! - `hidden`: width of the residual stream; `n_tokens`: tokens of a batch, windows laid end to end
//!
//! "Layer" alone is ambiguous and not used.

pub mod checkpoint;
mod compute_type;
mod divergence;
mod error;
mod forward;
mod generate;
mod kv_cache;
mod log_likelihood;
mod mask;
mod method;
pub mod model;
mod observe;
mod observer;
pub mod ops;
mod pattern;
mod perplexity;
mod prune;
mod resident_blocks;
mod resume;
mod simd;
mod statistic;
mod token_tree;
mod windows;

pub use checkpoint::{Checkpoint, PrunedCopy, Weights};
pub use compute_type::compute_type;
pub use divergence::{Divergence, divergence};
pub use error::{EngineError, Result};
pub use forward::{LOGITS_BYTES, WAVE_BYTES};
pub use generate::{GenerateOptions, Generation, GenerationEnd, Stop, generate};
pub use log_likelihood::{LogLikelihood, ScoredSequence, log_likelihoods};
pub use mask::Mask;
pub use method::{METHODS, Method, MethodId, Ria};
pub use model::{Decoder, ModelPlan};
pub use observe::observe;
pub use observer::{Observer, Progress, Silent};
pub use pattern::{ComparisonGroup, Goal, Pattern};
pub use perplexity::{Perplexity, perplexity};
pub use prune::{PruneOptions, prune};
pub use resident_blocks::ResidentBlocks;
pub use resume::{ResumeState, SavedState};
pub use statistic::{BlockStatistics, InputStatistics, Statistic, SumOfSquares};
pub use windows::{BATCH_TOKENS, TokenWindows};
