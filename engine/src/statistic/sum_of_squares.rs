//! Σx² of each input feature.

use candle_core::Tensor;

use crate::error::Result;
use crate::ops::column_sum_squares;

/// Σ_t x_tj² per input feature `j`, over all calibration tokens `t`, in f64.
#[derive(Debug, Clone, PartialEq)]
pub struct SumOfSquares {
    sums: Vec<f64>,
    n_windows: usize,
}

impl SumOfSquares {
    /// Sums over `n_windows` windows, of `d_in` features; nothing is added yet.
    pub(super) fn new(d_in: usize, n_windows: usize) -> Self {
        Self {
            sums: vec![0.0; d_in],
            n_windows,
        }
    }

    /// Adds the tokens of `x`, `[n_tokens, d_in]`.
    pub(super) fn add(&mut self, x: &Tensor) -> Result<()> {
        Ok(column_sum_squares(x, &mut self.sums)?)
    }

    /// Σ_t x_tj², `[d_in]`.
    pub fn sums(&self) -> &[f64] {
        &self.sums
    }

    /// Whether every sum is finite.
    pub(super) fn is_finite(&self) -> bool {
        self.sums.iter().all(|sum| sum.is_finite())
    }

    /// `sqrt(Σ_t x_tj² / n_windows)`, `[d_in]`, f32.
    ///
    /// The paper's ‖X_j‖₂ has no divisor; its implementation divides by the number of windows. A factor common to
    /// a linear changes no mask, so we follow the implementation, to the rounding.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "scores are f32, as in the reference"
    )]
    pub fn norms(&self) -> Vec<f32> {
        self.sums
            .iter()
            .map(|sum| ((sum / self.n_windows as f64) as f32).sqrt())
            .collect()
    }
}
