//! Sums and variances of each input feature by windows.

use candle_core::Tensor;

use crate::error::Result;
use crate::ops::add_window_moments;

/// Of each input feature: the mean over windows of its sum over a window's tokens, and the mean variance within a window.
#[derive(Debug, Clone, PartialEq)]
pub struct WindowMoments {
    sums: Vec<f64>,
    deviations: Vec<f64>,
    n_windows: usize,
    n_tokens: usize,
    /// Tokens of a window; `None` = every batch is one.
    pub(super) seq_len: Option<usize>,
}

impl WindowMoments {
    /// Over `n_windows` windows, of `d_in` features; nothing is added yet.
    pub(super) fn new(d_in: usize, n_windows: usize) -> Self {
        Self {
            sums: vec![0.0; d_in],
            deviations: vec![0.0; d_in],
            n_windows,
            n_tokens: 0,
            seq_len: None,
        }
    }

    /// Adds the tokens of `x`, `[n_tokens, d_in]`.
    pub(super) fn add(&mut self, x: &Tensor) -> Result<()> {
        let n_tokens = x.dim(0)?;
        let seq_len = self.seq_len.unwrap_or(n_tokens);
        add_window_moments(x, seq_len, &mut self.sums, &mut self.deviations)?;
        self.n_tokens += n_tokens;
        Ok(())
    }

    /// Whether everything is finite.
    pub(super) fn is_finite(&self) -> bool {
        let all = self.sums.iter().chain(&self.deviations);
        all.copied().all(f64::is_finite)
    }

    /// `Σ_t x_tj / n_windows`, `[d_in]`, f32.
    #[expect(clippy::cast_possible_truncation, reason = "as in the original")]
    pub fn sums(&self) -> Vec<f32> {
        let sums = self.sums.iter();
        sums.map(|sum| (sum / self.n_windows as f64) as f32)
            .collect()
    }

    /// The mean of the variances within windows, `[d_in]`, f32.
    #[expect(clippy::cast_possible_truncation, reason = "as in the original")]
    pub fn variances(&self) -> Vec<f32> {
        let deviations = self.deviations.iter();
        deviations
            .map(|deviation| (deviation / self.n_tokens as f64) as f32)
            .collect()
    }
}
