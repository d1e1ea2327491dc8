//! Which weights become zero: scores, counts and ties, applied in place.
//!
//! A weight's score is `|W_ij| · s_j` in f32, where `s_j` is the norm of input feature `j` (Wanda) or 1 (magnitude).
//! Scores are not negative, so their bits order like the numbers: they are compared as `u32` keys. Nothing is
//! sorted, no score matrix and no index exists; a row's keys live in a scratch buffer while the row is worked on.
//!
//! **Ties:** of equal scores the lower index is pruned first, as a stable sort would have it.
//! **Rounding:** `floor(n · ratio)` in double precision: 100 features at 0.29 give 28 zeros.

mod group;
mod keys;
mod row;
mod whole;

use rayon::prelude::*;

use super::checkpoint::Weights;
use super::simd::Isa;
pub use keys::NonFiniteScore as NonFinite;
use keys::{Element, NonFiniteScore};

/// How a weight's score is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Saliency {
    /// `|W_ij| · ‖X_j‖₂`, compared within each output row (arXiv 2306.11695, eq. 1).
    Wanda,
    /// `|W_ij|`, compared over the whole linear (the paper's baseline) or within groups.
    Magnitude,
}

/// How many weights become zero, and among which.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sparsity {
    /// This fraction of zeros, in [0, 1).
    Ratio(f64),
    /// In every `group` consecutive input features exactly `kept` stay. Note that the reference's `prune_n` counts
    /// the zeros instead.
    KeptOfGroup {
        /// N of N:M.
        kept: usize,
        /// M of N:M; divides the number of input features.
        group: usize,
    },
}

impl Sparsity {
    /// The fraction of zeros asked for.
    pub fn ratio(self) -> f64 {
        match self {
            Self::Ratio(ratio) => ratio,
            Self::KeptOfGroup { kept, group } => 1.0 - kept as f64 / group as f64,
        }
    }
}

/// `floor(n · ratio)` in double precision, as Python's `int(n * ratio)`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "0 ≤ n · ratio < n"
)]
pub(crate) fn zeros_of(n: usize, ratio: f64) -> usize {
    (n as f64 * ratio) as usize
}

/// Zeroes the least salient weights of a linear in place; kept weights stay bit-identical.
///
/// - `weights`: `[d_out, d_in]`
/// - `norms`: `[d_in]` input norms for Wanda, `None` for magnitude
pub fn prune_weights(
    weights: &mut Weights,
    d_in: usize,
    norms: Option<&[f32]>,
    sparsity: Sparsity,
) -> Result<(), NonFinite> {
    prune_weights_on(Isa::Native, weights, d_in, norms, sparsity)
}

/// [`prune_weights`] with chosen instructions; the result is the same for all.
pub fn prune_weights_on(
    isa: Isa,
    weights: &mut Weights,
    d_in: usize,
    norms: Option<&[f32]>,
    sparsity: Sparsity,
) -> Result<(), NonFinite> {
    match weights {
        Weights::F32(values) => prune(isa, values, d_in, norms, sparsity),
        Weights::F16(values) => prune(isa, values, d_in, norms, sparsity),
        Weights::Bf16(values) => prune(isa, values, d_in, norms, sparsity),
    }
}

fn prune<T: Element>(
    isa: Isa,
    values: &mut [T],
    d_in: usize,
    norms: Option<&[f32]>,
    sparsity: Sparsity,
) -> Result<(), NonFinite> {
    match (sparsity, norms) {
        (Sparsity::Ratio(ratio), None) => {
            whole::prune_whole(isa, values, zeros_of(values.len(), ratio))
        }
        (Sparsity::Ratio(ratio), Some(norms)) => {
            let zeros = zeros_of(d_in, ratio);
            by_rows(values, d_in, |row, scratch| {
                row::prune_row(isa, row, norms, zeros, scratch)
            })
        }
        (Sparsity::KeptOfGroup { kept, group }, norms) => {
            debug_assert!(d_in.is_multiple_of(group), "checked before the work begins");
            let ones = vec![1.0; d_in];
            let norms = norms.unwrap_or(&ones);
            by_rows(values, d_in, |row, scratch| {
                group::prune_groups(isa, row, norms, group - kept, group, scratch)
            })
        }
    }
}

/// Buffers of one thread, kept from row to row.
#[derive(Default)]
struct Scratch {
    keys: Vec<u32>,
    candidates: Vec<u32>,
}

fn by_rows<T: Element>(
    values: &mut [T],
    d_in: usize,
    prune_row: impl Fn(&mut [T], &mut Scratch) -> Result<(), NonFiniteScore> + Sync,
) -> Result<(), NonFinite> {
    /// Weights that are worth a task of their own.
    const WEIGHTS_PER_TASK: usize = 1 << 16;
    let rows_per_task = (WEIGHTS_PER_TASK / d_in).max(1);
    values
        .par_chunks_mut(d_in * rows_per_task)
        .try_for_each_init(Scratch::default, |scratch, rows| {
            rows.chunks_exact_mut(d_in)
                .try_for_each(|row| prune_row(row, scratch))
        })
}

#[cfg(test)]
mod tests;
