//! The Gram matrix of an input.

use candle_core::Tensor;

use crate::error::Result;
use crate::ops::add_gram;

/// `G_ij = Σ_t x_ti x_tj`, over all calibration tokens `t`, in f32.
#[derive(Debug, Clone, PartialEq)]
pub struct Gram {
    values: Vec<f32>,
    d_in: usize,
}

impl Gram {
    /// Of `d_in` features; nothing is added yet.
    pub(super) fn new(d_in: usize) -> Self {
        Self {
            values: vec![0.0; d_in * d_in],
            d_in,
        }
    }

    /// Adds the tokens of `x`, `[n_tokens, d_in]`, below the diagonal.
    pub(super) fn add(&mut self, x: &Tensor) -> Result<()> {
        Ok(add_gram(x, &mut self.values)?)
    }

    /// Copies what is below the diagonal to what is above it.
    pub(super) fn finish(&mut self) {
        for i in 0..self.d_in {
            for j in 0..i {
                self.values[j * self.d_in + i] = self.values[i * self.d_in + j];
            }
        }
    }

    /// Number of features.
    pub fn d_in(&self) -> usize {
        self.d_in
    }

    /// `[d_in, d_in]`, row-major.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// `G_jj`, `[d_in]`.
    pub fn diagonal(&self) -> impl Iterator<Item = f32> {
        self.values.iter().copied().step_by(self.d_in + 1)
    }

    /// One percent of the mean of the diagonal: added to it, it keeps solvers stable.
    #[expect(clippy::cast_possible_truncation, reason = "as the elements")]
    pub(crate) fn damping(&self) -> f32 {
        let trace: f64 = self.diagonal().map(f64::from).sum();
        (0.01 * trace / self.d_in as f64) as f32
    }

    /// Whether every element is finite: a value that is not is squared on the diagonal.
    pub(super) fn is_finite(&self) -> bool {
        self.diagonal().all(f32::is_finite)
    }
}
