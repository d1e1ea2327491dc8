//! What the dense model's outputs say of the inputs of a pruned one.

use candle_core::Tensor;

use super::Gram;
use crate::error::Result;
use crate::ops::add_cross;
use crate::ops::matmul::{View, add_times};

/// Sums over all calibration tokens `t` of a linear's input in the pruned model, `x_t`, and in the dense one, `x̂_t`.
///
/// The fit of a linear `b` with dense weights `w` aims at `‖w X̂ + H − b X‖²`, where `H` is what the residual stream of
/// the dense model is ahead of that of the pruned one: 0 for a linear that does not write into it. Beside `‖(w − b) X‖²`
/// that needs
///
/// ```text
/// shift = w (K − G) + D      K = Σ x̂_t x_tᵀ   G = Σ x_t x_tᵀ   D = Σ h_t x_tᵀ
/// ```
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Pairing {
    /// `K`, and `K − G` after [`Self::finish`]: `[d_in, d_in]`.
    cross: Vec<f32>,
    /// `D`, `[hidden, d_in]`.
    drift: Option<Vec<f32>>,
    d_in: usize,
}

impl Pairing {
    /// Of `d_in` features; with `hidden`, for linears that write into a residual stream of this width.
    pub(crate) fn new(d_in: usize, hidden: Option<usize>) -> Self {
        Self {
            cross: vec![0.0; d_in * d_in],
            drift: hidden.map(|hidden| vec![0.0; hidden * d_in]),
            d_in,
        }
    }

    /// Adds tokens: of the dense input and the pruned one, `[n_tokens, d_in]`, and `ahead`, `[n_tokens, hidden]`.
    pub(crate) fn add(
        &mut self,
        dense: &Tensor,
        pruned: &Tensor,
        ahead: Option<&Tensor>,
    ) -> Result<()> {
        add_cross(dense, pruned, &mut self.cross)?;
        if let Some((drift, ahead)) = self.drift.as_mut().zip(ahead) {
            add_cross(ahead, pruned, drift)?;
        }
        Ok(())
    }

    /// Ends the sums.
    pub(crate) fn finish(&mut self, gram: &Gram) {
        let pairs = self.cross.iter_mut().zip(gram.values());
        pairs.for_each(|(cross, gram)| *cross -= gram);
    }

    pub(crate) fn is_finite(&self) -> bool {
        let drift = self.drift.iter().flatten();
        self.cross
            .iter()
            .chain(drift)
            .all(|value| value.is_finite())
    }

    /// `shift` of a few rows of the dense weights, `[rows, d_in]`, from row `first` on; on the calling thread.
    pub(crate) fn shift(&self, dense: &[f32], first: usize) -> Vec<f32> {
        let d_in = self.d_in;
        let rows = View::rows(dense, dense.len() / d_in, d_in, d_in);
        let cross = View::rows(&self.cross, d_in, d_in, d_in);
        let mut shift = vec![0.0; dense.len()];
        if let Some(drift) = &self.drift {
            shift.copy_from_slice(&drift[first * d_in..][..dense.len()]);
        }
        add_times(&mut shift, d_in, rows, cross, 1.0);
        shift
    }
}
