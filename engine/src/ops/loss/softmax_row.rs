//! What is needed of one row of logits.

use crate::simd::{exp, max, sum_by, vectorized};

/// The parts of a row's log-sum-exp: `ln Σ_v exp(row[v]) = top + ln(sum)`.
pub(in crate::ops) struct SoftmaxRow {
    /// The largest logit.
    pub(in crate::ops) top: f32,
    /// `Σ_v exp(row[v] − top)`; NaN if any logit is not finite.
    pub(in crate::ops) sum: f32,
}

impl SoftmaxRow {
    pub(in crate::ops) fn of(row: &[f32]) -> Self {
        vectorized(|| {
            let top = max(row);
            // x · 0 is 0 for a finite x and NaN for any other.
            let sum = sum_by(row, |x| exp(x - top) + x * 0.0);
            Self { top, sum }
        })
    }

    /// `ln p(token)` of a token with this logit.
    pub(in crate::ops) fn log_probability(&self, logit: f32) -> f64 {
        (f64::from(logit) - f64::from(self.top)) - f64::from(self.sum).ln()
    }

    /// Whether `token` has the largest logit, and no earlier one has the same.
    pub(in crate::ops) fn is_first_largest(&self, row: &[f32], token: usize) -> bool {
        row[token] >= self.top && !row[..token].iter().any(|&x| x >= self.top)
    }
}
