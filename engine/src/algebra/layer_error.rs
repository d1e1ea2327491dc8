//! How far the outputs of a pruned linear are from those of the dense one.

use rayon::prelude::*;

use crate::checkpoint::Weights;
use crate::ops::matmul::{View, times};
use crate::simd::{sum_by_pairs, vectorized};
use crate::statistic::Gram;

/// Rows that are worked on together, on one thread.
pub(crate) const ROWS_PER_TASK: usize = 64;

/// `‖(W − W′)X‖² / ‖WX‖²` of `dense` weights `[d_out, d_in]` and `pruned` ones; 0 where nothing is lost.
pub(crate) fn layer_error(dense: &[f32], pruned: &Weights, gram: &Gram) -> f64 {
    let of_task = ROWS_PER_TASK * gram.d_in();
    let tasks = dense.par_chunks(of_task).enumerate();
    let sums: Vec<(f64, f64)> = tasks
        .map(|(task, dense)| {
            let first = task * of_task;
            let mut lost = pruned.to_f32(first..first + dense.len());
            let pairs = lost.iter_mut().zip(dense);
            pairs.for_each(|(pruned, dense)| *pruned = dense - *pruned);
            let sum = |rows: &[f32]| squared_outputs(rows, gram).iter().sum();
            (sum(&lost), sum(dense))
        })
        .collect();
    match sums.iter().fold((0.0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1)) {
        (_, 0.0) => 0.0,
        (lost, dense) => lost / dense,
    }
}

/// `d G dᵀ = ‖dX‖²` of each row `d` of a few rows, on the calling thread.
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
