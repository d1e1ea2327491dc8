//! A synchronous, deterministic library that prunes the decoder blocks of a language model, one block at a time.
//!
//! It knows nothing of jobs, HTTP or databases.
//!
//! For each block, in order: forward the calibration windows through the dense block and observe the inputs of its
//! linears, prune these by a [`Method`] of the table [`METHODS`], forward the windows again through the pruned
//! block; that output is the next block's input. One block is resident at a time: it is read from the source
//! checkpoint and its pruned linears are written into a copy of that checkpoint, tensor by tensor.
//!
//! A [`Structure`] of the table [`STRUCTURES`] removes whole parts instead: one pass over the dense model ranks them,
//! and what is left is written as a smaller checkpoint.
//!
//! # Words
//!
//! - *block*: one decoder layer; *linear*: one weight matrix `[d_out, d_in]`
//! - *sparsity*: fraction of zeros, in [0, 1)
//! - *window*: `seq_len` token ids; `n_samples` of them are the calibration set
//! - `hidden`: width of the residual stream; `n_tokens`: tokens of a batch, windows laid end to end
//!
//! "Layer" alone is ambiguous and not used.

mod algebra;
mod allocation;
pub mod checkpoint;
mod compute_type;
mod device_memory;
mod error;
mod handle;
mod mask;
mod measure;
mod method;
pub mod model;
mod observe;
mod observer;
pub mod ops;
mod pattern;
mod prune;
mod pruning;
mod recipe;
mod refine;
mod resume;
mod simd;
mod statistic;
mod structure;
mod targets;
mod windows;

pub use allocation::{
    ALLOCATIONS, Allocation, AllocationId, AllocationSpec, DenseBlock, Parameter, ParameterKind,
    ParameterValue,
};
pub use checkpoint::{Checkpoint, LFS_POINTER, PrunedCopy, Weights, is_lfs_pointer};
pub use compute_type::compute_type;
pub use device_memory::free_device_bytes;
pub use error::{EngineError, Result};
pub use handle::{Handle, Listed};
pub use mask::Mask;
pub use measure::{
    Divergence, GenerateOptions, Generation, GenerationEnd, LOGITS_BYTES, LogLikelihood,
    Perplexity, ResidentBlocks, ScoredSequence, Stop, WAVE_BYTES, divergence, divergences,
    generate, log_likelihoods, perplexity, tokens_per_second,
};
pub use method::{Chosen, METHODS, Method, MethodId, Ria};
pub use model::{Decoder, ModelPlan};
pub use observe::observe;
pub use observer::{Observer, PassProgress, Silent};
pub use pattern::{ComparisonGroup, Goal, Pattern};
pub use prune::{Propagation, PruneOptions, prune};
pub use pruning::{Pruning, PruningMethod, PruningWork};
pub use recipe::{Contradiction, LinearOutcome, Recipe};
pub use refine::{Dsnot, REFINEMENTS, Refinement, RefinementId};
pub use resume::{ResumeState, SavedState};
pub use statistic::{
    BlockStatistics, Gram, InputStatistics, Statistic, SumOfSquares, WindowMoments,
};
pub use structure::{RankedPart, Rest, STRUCTURES, Structure, StructureId, remove};
pub use targets::{LinearRule, Misfit, Targets};
pub use windows::{BATCH_TOKENS, TokenWindows};
