//! How far the outputs of a pruned linear are from those of the dense one.

use rayon::prelude::*;

use crate::ops::matmul::{View, times};
use crate::simd::{sum_by_pairs, vectorized};
use crate::statistic::Gram;

/// Rows that are worked on together, on one thread.
pub(crate) const ROWS_PER_TASK: usize = 64;

/// `tr(D G Dᵀ) = ‖DX‖²` of the rows of `difference`, `[d_out, d_in]`.
pub(crate) fn squared_output(difference: &[f32], gram: &Gram) -> f64 {
    let tasks = difference.par_chunks(ROWS_PER_TASK * gram.d_in());
    let sums: Vec<f64> = tasks
        .map(|rows| squared_outputs(rows, gram).iter().sum())
        .collect();
    sums.iter().sum()
}

/// `d G dᵀ` of each row `d` of a few rows, on the calling thread.
pub(crate) fn squared_outputs(rows: &[f32], gram: &Gram) -> Vec<f64> {
    let mut product = vec![0.0; rows.len()];
    times_gram(&mut product, rows, gram.values(), gram.d_in());
    row_products(rows, &product, gram.d_in())
}

/// `out = rows · gram`, with a `gram` of `[d_in, d_in]`, on the calling thread.
pub(crate) fn times_gram(out: &mut [f32], rows: &[f32], gram: &[f32], d_in: usize) {
    let view = View::rows(rows, rows.len() / d_in, d_in, d_in);
    times(out, d_in, view, View::rows(gram, d_in, d_in, d_in), 1.0);
}

/// `Σ_j a_ij b_ij` of each row `i`.
pub(crate) fn row_products(a: &[f32], b: &[f32], d_in: usize) -> Vec<f64> {
    let rows = a.chunks_exact(d_in).zip(b.chunks_exact(d_in));
    rows.map(|(a, b)| f64::from(vectorized(|| sum_by_pairs(a, b, |a, b| a * b))))
        .collect()
}
