//! SparseGPT (arXiv 2301.00774).
//!
//! With `H = Σ x xᵀ + λI` and the upper triangular `U` of `H⁻¹ = Uᵀ U`, columns are visited from left to right. Where
//! a weight `w_ij` becomes zero, the weights to its right make up for it: `w_i,k −= w_ij / U_jj · U_jk`. The weights
//! with the lowest `w_ij² / U_jj²` become zero: for each block of columns those of all rows are compared, as they are
//! when the block begins; in groups of an `N:M` pattern those of the group, when it begins.
//!
//! The original zeroes one weight more per block than was asked for; here the sum is exact.

use rayon::prelude::*;

use super::{Chosen, Method};
use crate::algebra::inverse_factor;
use crate::checkpoint::Weights;
use crate::error::{EngineError, Result};
use crate::mask::Mask;
use crate::model::LinearSpec;
use crate::ops::matmul::{View, add_times};
use crate::pattern::{Goal, Pattern, Score, choose_in_linear, is_among_lowest};
use crate::simd::vectorized;
use crate::statistic::{Gram, InputStatistics, Statistic};

/// Columns whose updates of the columns after them are made at once.
const BLOCK: usize = 128;

/// λ, relative to the mean of the diagonal; the next one where `H` cannot be factored.
const DAMPING: [f64; 3] = [0.01, 0.1, 1.0];

/// Rows that are worked on by one task.
const ROWS_PER_TASK: usize = 32;

/// Zeroes weights from left to right and updates those that follow.
#[derive(Debug, Clone, Copy)]
pub(super) struct SparseGpt;

impl Method for SparseGpt {
    fn name(&self) -> &'static str {
        "sparsegpt"
    }

    fn doc(&self) -> &'static str {
        "`w² / [H⁻¹]_jj` from left to right, the kept weights updated (arXiv 2301.00774, algorithm 1)."
    }

    fn needs(&self) -> &'static [Statistic] {
        &[Statistic::Gram]
    }

    fn only_zeroes(&self) -> bool {
        false
    }

    /// Two matrices of f64 and one of f32 for the factor; the weights in f32, and what they make up for.
    fn working_bytes(&self, d_out: u64, d_in: u64) -> u64 {
        20 * d_in * d_in + 4 * d_out * (d_in + BLOCK as u64)
    }

    /// The factor of the inverse, and half a product for the updates.
    fn multiplications(&self, d_out: u64, d_in: u64) -> u64 {
        let factor = d_in.saturating_pow(3);
        factor.saturating_add((d_out * d_in).saturating_mul(d_in) / 2)
    }

    fn prune(
        &self,
        weights: &mut Weights,
        linear: &LinearSpec,
        seen: &InputStatistics,
        goal: Goal,
    ) -> Result<Chosen> {
        let non_finite = |what| EngineError::NonFinite {
            what,
            place: linear.name.clone(),
        };
        let gram = seen.gram()?;
        let (factor, damping_steps) = factor(gram).ok_or_else(|| EngineError::SingularHessian {
            linear: linear.name.clone(),
            damping: DAMPING[DAMPING.len() - 1],
        })?;
        let mut pass = Pass {
            values: weights.clone().into_f32(),
            mask: Mask::none(linear.d_out, linear.d_in),
            d_in: linear.d_in,
            factor: &factor,
        };
        if !pass.values.iter().all(|value| value.is_finite()) {
            return Err(non_finite("weights"));
        }
        pass.zero_columns(|column| gram.values()[column * (linear.d_in + 1)] == 0.0);
        pass.prune(goal).ok_or_else(|| non_finite("scores"))?;
        weights.assign(&pass.values);
        Ok(Chosen {
            mask: pass.mask,
            damping_steps,
        })
    }
}

/// `U`, and how often the damping had to grow. A feature that is always zero has 1 on the diagonal.
fn factor(gram: &Gram) -> Option<(Vec<f32>, usize)> {
    let d_in = gram.d_in();
    let diagonal = |j: usize| match gram.values()[j * (d_in + 1)] {
        0.0 => 1.0,
        value => f64::from(value),
    };
    let mean = (0..d_in).map(diagonal).sum::<f64>() / d_in as f64;
    DAMPING.iter().enumerate().find_map(|(step, damping)| {
        let factor = inverse_factor(d_in, |i, j| {
            if i == j {
                diagonal(i) + damping * mean
            } else {
                f64::from(gram.values()[i * d_in + j])
            }
        });
        let factor = factor.filter(|u| u.iter().all(|value| value.is_finite()));
        factor.map(|factor| (factor, step))
    })
}

struct Pass<'a> {
    /// `[d_out, d_in]`, as they are after the columns that are done.
    values: Vec<f32>,
    mask: Mask,
    d_in: usize,
    factor: &'a [f32],
}

impl Pass<'_> {
    fn zero_columns(&mut self, is_dead: impl Fn(usize) -> bool) {
        let dead: Vec<usize> = (0..self.d_in).filter(|&column| is_dead(column)).collect();
        for row in self.values.chunks_exact_mut(self.d_in) {
            for &column in &dead {
                row[column] = 0.0;
            }
        }
    }

    /// `None` when a score is not finite.
    fn prune(&mut self, goal: Goal) -> Option<()> {
        let rows = self.values.len() / self.d_in;
        let width = match goal.pattern {
            Pattern::Unstructured => BLOCK,
            Pattern::KeptOfGroup { group, .. } => BLOCK / group * group,
        };
        let mut zeros = 0;
        for first in (0..self.d_in).step_by(width) {
            let end = (first + width).min(self.d_in);
            let choice = match goal.pattern {
                Pattern::Unstructured => {
                    let all = goal.zeros_until(rows * end, self.values.len());
                    let mask = self.lowest(first..end, all - zeros)?;
                    zeros = all;
                    Choice::Made(mask)
                }
                Pattern::KeptOfGroup { kept, group } => Choice::Groups {
                    zeros: group - kept,
                    group,
                },
            };
            self.prune_columns(first..end, &choice)?;
        }
        Some(())
    }

    /// The `zeros` weights of these columns with the lowest scores.
    fn lowest(&self, columns: std::ops::Range<usize>, zeros: usize) -> Option<Mask> {
        let rows = self.values.chunks_exact(self.d_in);
        let block: Vec<f32> = rows
            .flat_map(|row| &row[columns.clone()])
            .copied()
            .collect();
        let diagonal = columns.clone().map(|j| self.factor[j * (self.d_in + 1)]);
        let score = Relative(diagonal.collect());
        choose_in_linear(&block, columns.len(), zeros, &score).ok()
    }

    fn prune_columns(&mut self, columns: std::ops::Range<usize>, choice: &Choice) -> Option<()> {
        let (d_in, factor) = (self.d_in, self.factor);
        let words_per_row = self.mask.words_per_row();
        let rest = d_in - columns.end;
        self.values
            .par_chunks_mut(ROWS_PER_TASK * d_in)
            .zip(self.mask.par_rows_mut(ROWS_PER_TASK))
            .enumerate()
            .try_for_each(|(task, (rows, words))| {
                let n = rows.len() / d_in;
                let mut errors = vec![0.0; n * columns.len()];
                let each = rows
                    .chunks_exact_mut(d_in)
                    .zip(words.chunks_exact_mut(words_per_row));
                for (i, ((row, words), errors)) in
                    each.zip(errors.chunks_exact_mut(columns.len())).enumerate()
                {
                    let mut row = Row {
                        values: &mut row[columns.clone()],
                        words,
                        first: columns.start,
                        factor,
                        d_in,
                    };
                    row.prune(task * ROWS_PER_TASK + i, choice, errors)?;
                }
                if rest > 0 {
                    let errors = View::rows(&errors, n, columns.len(), columns.len());
                    let factor = &factor[columns.start * d_in + columns.end..];
                    let factor = View::rows(factor, columns.len(), rest, d_in);
                    add_times(&mut rows[columns.end..], d_in, errors, factor, -1.0);
                }
                Some(())
            })
    }
}

/// Which weights of a block of columns become zero.
enum Choice {
    /// These.
    Made(Mask),
    /// The lowest of each group, as they are when it begins.
    Groups { zeros: usize, group: usize },
}

/// One row of a block of columns.
struct Row<'a> {
    values: &'a mut [f32],
    /// Of the whole row.
    words: &'a mut [u64],
    first: usize,
    factor: &'a [f32],
    d_in: usize,
}

impl Row<'_> {
    /// Visits the columns; `errors` are what the columns after the block have to make up for.
    fn prune(&mut self, number: usize, choice: &Choice, errors: &mut [f32]) -> Option<()> {
        for (at, lost) in errors.iter_mut().enumerate() {
            if let Choice::Groups { zeros, group } = *choice
                && at.is_multiple_of(group)
            {
                self.choose_of_group(at, group, zeros)?;
            }
            if let Choice::Made(mask) = choice
                && mask.contains(number, at)
            {
                self.mark(at);
            }
            let column = self.first + at;
            if self.words[column / 64] >> (column % 64) & 1 == 0 {
                continue;
            }
            let factor = &self.factor[column * self.d_in..][column..][..self.values.len() - at];
            let error = self.values[at] / factor[0];
            let following = &mut self.values[at..];
            vectorized(|| {
                let pairs = following.iter_mut().zip(factor);
                pairs.for_each(|(value, u)| *value -= error * u);
            });
            self.values[at] = 0.0;
            *lost = error;
        }
        Some(())
    }

    fn choose_of_group(&mut self, at: usize, group: usize, zeros: usize) -> Option<()> {
        let scores = (at..at + group).map(|at| {
            let column = self.first + at;
            relative(self.values[at], self.factor[column * (self.d_in + 1)])
        });
        let keys: Vec<u32> = scores.map(f32::to_bits).collect();
        keys.iter()
            .all(|&key| f32::from_bits(key).is_finite())
            .then_some(())?;
        for i in (0..group).filter(|&i| is_among_lowest(&keys, i, zeros)) {
            self.mark(at + i);
        }
        Some(())
    }

    fn mark(&mut self, at: usize) {
        let column = self.first + at;
        self.words[column / 64] |= 1 << (column % 64);
    }
}

/// `w² / U_jj²` by column.
struct Relative(Vec<f32>);

impl Score for Relative {
    #[inline(always)]
    fn fill(&self, _row: usize, column: usize, weights: &[f32], scores: &mut [f32]) {
        let diagonal = &self.0[column..][..weights.len()];
        for ((score, weight), u) in scores.iter_mut().zip(weights).zip(diagonal) {
            *score = relative(*weight, *u);
        }
    }
}

#[inline(always)]
fn relative(weight: f32, u: f32) -> f32 {
    (weight * weight) / (u * u)
}

#[cfg(test)]
mod tests;
