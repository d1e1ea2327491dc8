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

    /// Adds the tokens of `x`, `[n, d_in]`: these rows of a batch of whole windows, or all.
    pub(super) fn add(&mut self, x: &Tensor, rows: Option<&[u32]>) -> Result<()> {
        let n_tokens = x.dim(0)?;
        let (sums, deviations) = (&mut self.sums, &mut self.deviations);
        match (rows, self.seq_len) {
            (Some(rows), Some(seq_len)) => {
                let mut start = 0;
                for window in rows.chunk_by(|a, b| *a as usize / seq_len == *b as usize / seq_len) {
                    let x = x.narrow(0, start, window.len())?;
                    add_window_moments(&x, window.len(), sums, deviations)?;
                    start += window.len();
                }
            }
            (_, seq_len) => {
                add_window_moments(x, seq_len.unwrap_or(n_tokens), sums, deviations)?;
            }
        }
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

    /// The mean of the variances within windows, each weighted by its tokens, `[d_in]`, f32; 0 without tokens.
    #[expect(clippy::cast_possible_truncation, reason = "as in the original")]
    pub fn variances(&self) -> Vec<f32> {
        let n_tokens = self.n_tokens.max(1) as f64;
        let deviations = self.deviations.iter();
        deviations
            .map(|deviation| (deviation / n_tokens) as f32)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn routed_tokens_belong_to_their_windows() {
        // Windows of three tokens; rows 0 and 2 of the first, row 4 of the second, none of the third, row 9 of the fourth.
        let x = Tensor::new(&[[1f32], [3.0], [5.0], [-2.0]], &Device::Cpu).unwrap();
        let mut moments = WindowMoments::new(1, 4);
        moments.seq_len = Some(3);
        moments.add(&x, Some(&[0, 2, 4, 9])).unwrap();
        // (1 + 3 + 5 − 2) / 4; the first window's deviations are 1 and 1, the others have one token.
        assert_eq!(
            (moments.sums(), moments.variances()),
            (vec![1.75], vec![0.5])
        );
        let nothing = WindowMoments::new(1, 4);
        assert_eq!(
            (nothing.sums(), nothing.variances()),
            (vec![0.0], vec![0.0])
        );
    }
}
