//! Tensor operations that candle lacks or runs slowly on the CPU.
//!
//! Each has a CPU version (fused, parallel, the same bits for any number of threads) and a version composed of
//! candle's own operations for other devices; tests compare the two.

mod activation;
mod add;
mod argmax;
mod attention;
mod column_sum_squares;
mod cosine;
mod cross;
mod gram;
mod linear;
mod loss;
pub(crate) mod matmul;
mod norm;
mod routing;
mod widen;
mod window_moments;

use candle_core::{CpuStorage, Layout, Tensor};

pub use activation::{Activation, soft_cap};
pub use add::add;
pub use argmax::argmax;
pub use attention::{
    AttentionShape, CachedSequence, Segment, TokenLayout, cached_attention, causal_attention,
    rotate,
};
pub use column_sum_squares::column_sum_squares;
pub use cosine::sum_of_cosines;
pub use cross::add_cross;
pub use gram::add_gram;
pub use linear::linear;
pub use loss::{
    PairedPrediction, Target, TokenScore, log_probabilities, negative_log_likelihoods,
    paired_predictions,
};
pub use norm::{layer_norm, rms_norm};
pub use routing::{RoutedTokens, RowSum, route};
pub use widen::widen;
pub(crate) use widen::{widened_bf16, widened_f16};
pub use window_moments::add_window_moments;

/// Rows of work that are worth a task of their own.
const ROWS_PER_TASK: usize = 16;

/// The f32 values of a contiguous CPU tensor.
fn contiguous<'a>(storage: &'a CpuStorage, layout: &Layout) -> candle_core::Result<&'a [f32]> {
    let values = storage.as_slice::<f32>()?;
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&values[start..end]),
        None => candle_core::bail!("expected a contiguous tensor, got {layout:?}"),
    }
}

fn on_cpu(tensor: &Tensor) -> bool {
    tensor.device().is_cpu()
}
