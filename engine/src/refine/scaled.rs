//! The damped Gram matrix, scaled to a diagonal of ones.

use rayon::prelude::*;

use crate::statistic::Gram;

/// `A = G + λI`, λ = 1 % of the mean of `G`'s diagonal, as `A_ij / √(A_ii A_jj)`.
pub(crate) struct ScaledGram {
    /// `√A_jj`, `[d_in]`.
    roots: Vec<f32>,
    /// `1 / √A_jj`; 0 for a feature that is always zero, where there is no damping.
    inverse_roots: Vec<f32>,
    /// `[d_in, d_in]`.
    values: Vec<f32>,
}

impl ScaledGram {
    pub(crate) fn of(gram: &Gram) -> Self {
        let damping = gram.damping();
        let roots: Vec<f32> = gram.diagonal().map(|g| (g + damping).sqrt()).collect();
        let inverse = roots
            .iter()
            .map(|&root| if root > 0.0 { 1.0 / root } else { 0.0 });
        let inverse_roots: Vec<f32> = inverse.collect();
        let mut values = gram.values().to_vec();
        let rows = values.par_chunks_mut(gram.d_in()).zip(&inverse_roots);
        rows.enumerate().for_each(|(i, (row, of_row))| {
            row[i] += damping;
            let values = row.iter_mut().zip(&inverse_roots);
            values.for_each(|(value, of_column)| *value *= of_row * of_column);
        });
        Self {
            roots,
            inverse_roots,
            values,
        }
    }

    /// Number of features.
    pub(crate) fn d_in(&self) -> usize {
        self.roots.len()
    }

    /// `[d_in, d_in]`, row-major.
    pub(crate) fn values(&self) -> &[f32] {
        &self.values
    }

    /// Weights as they stand before the scaled matrix: `b_j √A_jj`.
    pub(crate) fn scale(&self, weights: &[f32]) -> Vec<f32> {
        let roots = self.roots.iter().cycle();
        weights
            .iter()
            .zip(roots)
            .map(|(w, root)| w * root)
            .collect()
    }

    /// The inverse of [`Self::scale`].
    pub(crate) fn unscale(&self, scaled: &mut [f32]) {
        let roots = self.inverse_roots.iter().cycle();
        scaled
            .iter_mut()
            .zip(roots)
            .for_each(|(x, root)| *x *= root);
    }
}
