//! Least squares of the kept weights on a fixed mask.
//!
//! Each row `b` of the weights is fitted for itself: it minimises
//!
//! ```text
//! (b − w) A (b − w)ᵀ      A = G + λI,  λ = 1 % of the mean of G's diagonal
//! ```
//!
//! over all rows that are zero where the mask is; `w` is the dense row and `G = Σ x xᵀ`. Conjugate gradients,
//! preconditioned by the diagonal of `A`, begin with the pruned row (ALPS, arXiv 2406.07831, section 3.3). A row
//! whose squared output error is not lower afterwards, rounded to the file's dtype, stays as it was.
//!
//! With a [`Pairing`] the outputs that it is fitted to are those of the dense model, whose inputs are not the same: a
//! linear term `−2 shift (b − w)ᵀ` is added.

use rayon::prelude::*;

use crate::algebra::{ROWS_PER_TASK, row_products, squared_outputs, times_gram};
use crate::checkpoint::Weights;
use crate::mask::Mask;
use crate::refine::ScaledGram;
use crate::simd::vectorized;
use crate::statistic::{Gram, Pairing};

/// Steps after which a row is taken as it is.
const MAX_STEPS: usize = 20;

/// Squared residual, relative to the first one, below which a row is done.
const TOLERANCE: f64 = 1e-10;

/// Multiplications of a fit: a product of weights and Gram matrix for each step, and four for the errors.
pub(crate) fn refit_multiplications(d_out: u64, d_in: u64) -> u64 {
    ((MAX_STEPS as u64 + 4) * d_out * d_in).saturating_mul(d_in)
}

/// Fits the kept weights, `[d_out, d_in]`, to the outputs of the `dense` ones: on the same inputs, or with a `pairing`
/// on those of the dense model.
pub(crate) fn refit(
    dense: &[f32],
    weights: &mut Weights,
    mask: &Mask,
    gram: &Gram,
    pairing: Option<&Pairing>,
) -> Refitted {
    let problem = Fit {
        gram,
        scaled: ScaledGram::of(gram),
        rounded: weights.rounding(),
    };
    let mut fitted = weights.clone().into_f32();
    let task = ROWS_PER_TASK * gram.d_in();
    let squares: Vec<Squares> = fitted
        .par_chunks_mut(task)
        .zip(dense.par_chunks(task))
        .enumerate()
        .map(|(task, (fitted, dense))| {
            let first = task * ROWS_PER_TASK;
            let kept = mask.kept(first, dense.len() / gram.d_in());
            let shift = pairing.map(|pairing| pairing.shift(dense, first));
            problem.fit(fitted, &Rows { dense, kept, shift })
        })
        .collect();
    weights.assign(&fitted);
    let sum = |part: fn(&Squares) -> f64| squares.iter().map(part).sum::<f64>();
    let dense = sum(|squares| squares.dense);
    let relative = |square| if dense > 0.0 { square / dense } else { 0.0 };
    Refitted {
        before: relative(sum(|squares| squares.before)),
        after: relative(sum(|squares| squares.after)),
    }
}

/// The layer error, `‖(W − W′)X‖² / ‖WX‖²` on the calibration tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Refitted {
    pub(crate) before: f64,
    pub(crate) after: f64,
}

/// Squared outputs of a few rows: of the dense ones, and of what is lost before and after.
struct Squares {
    dense: f64,
    before: f64,
    after: f64,
}

/// What a few rows are fitted to.
struct Rows<'a> {
    dense: &'a [f32],
    /// 1 where a weight is kept, 0 elsewhere.
    kept: Vec<f32>,
    /// See [`Pairing`].
    shift: Option<Vec<f32>>,
}

/// The plain method on the scaled matrix is the preconditioned one.
struct Fit<'a> {
    gram: &'a Gram,
    scaled: ScaledGram,
    rounded: fn(f32) -> f32,
}

impl Fit<'_> {
    /// Fits a few rows in place.
    fn fit(&self, values: &mut [f32], rows: &Rows<'_>) -> Squares {
        let before = self.lost(values, rows);
        let mut fitted = self.solve(values, rows);
        for weight in &mut fitted {
            *weight = (self.rounded)(*weight);
        }
        let mut after = self.lost(&fitted, rows);
        let d_in = self.gram.d_in();
        let pairs = values.chunks_exact_mut(d_in).zip(fitted.chunks_exact(d_in));
        for ((row, fitted), (before, after)) in pairs.zip(before.iter().zip(&mut after)) {
            // NaN is not lower either.
            if after.aim < before.aim {
                row.copy_from_slice(fitted);
            } else {
                *after = *before;
            }
        }
        let squares = |lost: &[Lost]| lost.iter().map(|lost| lost.square).sum();
        Squares {
            dense: squared_outputs(rows.dense, self.gram).iter().sum(),
            before: squares(&before),
            after: squares(&after),
        }
    }

    /// What each row loses.
    fn lost(&self, values: &[f32], rows: &Rows<'_>) -> Vec<Lost> {
        let difference: Vec<f32> = values.iter().zip(rows.dense).map(|(b, w)| b - w).collect();
        let squares = squared_outputs(&difference, self.gram);
        let shifted = rows.shift.as_ref().map_or_else(
            || vec![0.0; squares.len()],
            |shift| row_products(&difference, shift, self.gram.d_in()),
        );
        let rows = squares.into_iter().zip(shifted);
        rows.map(|(square, shifted)| Lost {
            square,
            aim: square - 2.0 * shifted,
        })
        .collect()
    }

    /// Conjugate gradients on the kept weights, all rows at once.
    fn solve(&self, start: &[f32], rows: &Rows<'_>) -> Vec<f32> {
        let d_in = self.gram.d_in();
        let kept = &rows.kept;
        let mut x = self.scaled.scale(start);
        let missing = self.scaled.scale(rows.dense);
        let missing: Vec<f32> = missing.iter().zip(&x).map(|(w, x)| w - x).collect();
        let mut product = vec![0.0; x.len()];
        times_gram(&mut product, &missing, self.scaled.values(), d_in);
        if let Some(shift) = &rows.shift {
            let mut shift = shift.clone();
            self.scaled.unscale(&mut shift);
            product.iter_mut().zip(shift).for_each(|(sum, x)| *sum += x);
        }
        let mut residual = product.clone();
        vectorized(|| multiply(&mut residual, kept));
        let mut direction = residual.clone();
        let mut squares = row_products(&residual, &residual, d_in);
        let enough: Vec<f64> = squares.iter().map(|square| square * TOLERANCE).collect();
        for _ in 0..MAX_STEPS {
            if squares
                .iter()
                .zip(&enough)
                .all(|(square, enough)| square <= enough)
            {
                break;
            }
            times_gram(&mut product, &direction, self.scaled.values(), d_in);
            vectorized(|| multiply(&mut product, kept));
            let curvatures = row_products(&direction, &product, d_in);
            let steps: Vec<f32> = squares.iter().zip(&curvatures).map(ratio).collect();
            add_rows(&mut x, &direction, steps.iter().copied(), d_in);
            add_rows(
                &mut residual,
                &product,
                steps.iter().map(|step| -step),
                d_in,
            );
            let next = row_products(&residual, &residual, d_in);
            let turns: Vec<f32> = next.iter().zip(&squares).map(ratio).collect();
            turn(&mut direction, &residual, &turns, d_in);
            squares = next;
        }
        self.scaled.unscale(&mut x);
        x
    }
}

/// What a row loses.
#[derive(Clone, Copy)]
struct Lost {
    /// `‖(w − b) X‖²`.
    square: f64,
    /// What the fit makes small: the same without a pairing, else `‖w X̂ + H − b X‖²` but for a constant.
    aim: f64,
}

/// 0 where there is nothing left to divide by.
#[expect(
    clippy::cast_possible_truncation,
    reason = "steps are f32, as the rows"
)]
fn ratio((above, below): (&f64, &f64)) -> f32 {
    if *below > 0.0 {
        (above / below) as f32
    } else {
        0.0
    }
}

#[inline(always)]
fn multiply(values: &mut [f32], factors: &[f32]) {
    let pairs = values.iter_mut().zip(factors);
    pairs.for_each(|(value, factor)| *value *= factor);
}

/// `to += factor · from`, row by row.
fn add_rows(to: &mut [f32], from: &[f32], factors: impl Iterator<Item = f32>, d_in: usize) {
    let rows = to.chunks_exact_mut(d_in).zip(from.chunks_exact(d_in));
    for ((to, from), factor) in rows.zip(factors) {
        vectorized(|| {
            let pairs = to.iter_mut().zip(from);
            pairs.for_each(|(to, from)| *to += factor * from);
        });
    }
}

/// `direction = residual + turn · direction`, row by row.
fn turn(direction: &mut [f32], residual: &[f32], turns: &[f32], d_in: usize) {
    let rows = direction.chunks_exact_mut(d_in);
    for ((direction, residual), turn) in rows.zip(residual.chunks_exact(d_in)).zip(turns) {
        vectorized(|| {
            let pairs = direction.iter_mut().zip(residual);
            pairs.for_each(|(direction, residual)| *direction = residual + turn * *direction);
        });
    }
}

#[cfg(test)]
mod tests;
