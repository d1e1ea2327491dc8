//! RIA: relative importance and activations (Zhang et al., "Plug-and-Play", ICLR 2024).
//!
//! Where all weights of a row or a column are zero, the original divides zero by zero. Here a weight that is zero has
//! the score 0, so it is among the first to be chosen.

use rayon::prelude::*;

use super::{Chosen, Method, lowest};
use crate::checkpoint::Weights;
use crate::error::Result;
use crate::model::LinearSpec;
use crate::pattern::{ComparisonGroup, Element, Goal, Score};
use crate::simd::{LANES, vectorized};
use crate::statistic::{InputStatistics, Statistic};

/// `(|W_ij| / Σ_i|W_ij| + |W_ij| / Σ_j|W_ij|) · √‖X_j‖₂`.
#[derive(Debug, Clone, Copy)]
pub struct Ria;

impl Method for Ria {
    fn name(&self) -> &'static str {
        "ria"
    }

    fn doc(&self) -> &'static str {
        "`(|W_ij| / Σ_i|W_ij| + |W_ij| / Σ_j|W_ij|) · √‖X_j‖₂` over the whole linear (Zhang et al., ICLR 2024)."
    }

    fn needs(&self) -> &'static [Statistic] {
        &[Statistic::SumOfSquares]
    }

    fn group(&self) -> Option<ComparisonGroup> {
        Some(ComparisonGroup::Linear)
    }

    fn prune(
        &self,
        weights: &mut Weights,
        linear: &LinearSpec,
        seen: &InputStatistics,
        goal: Goal,
    ) -> Result<Chosen> {
        let score = RelativeImportance::of(weights, linear.d_in, &seen.sum_of_squares()?.norms());
        lowest(weights, linear, goal, ComparisonGroup::Linear, &score)
    }
}

/// The share of a weight in its row and in its column, times the root of its input's norm.
struct RelativeImportance {
    rows: Vec<f32>,
    columns: Vec<f32>,
    roots: Vec<f32>,
}

impl RelativeImportance {
    fn of(weights: &Weights, d_in: usize, norms: &[f32]) -> Self {
        let (rows, columns) = match weights {
            Weights::F32(values) => sums(values, d_in),
            Weights::F16(values) => sums(values, d_in),
            Weights::Bf16(values) => sums(values, d_in),
        };
        Self {
            rows: divisors(&rows),
            columns: divisors(&columns),
            roots: norms.iter().map(|norm| norm.sqrt()).collect(),
        }
    }
}

impl Score for RelativeImportance {
    #[inline(always)]
    fn fill(&self, row: usize, column: usize, weights: &[f32], scores: &mut [f32]) {
        let of_row = self.rows[row];
        let columns = &self.columns[column..][..weights.len()];
        let roots = &self.roots[column..][..weights.len()];
        let weights = weights.iter().zip(columns).zip(roots);
        for (score, ((weight, of_column), root)) in scores.iter_mut().zip(weights) {
            let magnitude = weight.abs();
            *score = (magnitude / of_column + magnitude / of_row) * root;
        }
    }
}

/// Sums to divide by; all weights are zero where a sum is, and zero divided by one is zero.
#[expect(
    clippy::cast_possible_truncation,
    reason = "scores are f32, as in the original"
)]
fn divisors(sums: &[f64]) -> Vec<f32> {
    let sums = sums.iter().map(|&sum| sum as f32);
    sums.map(|sum| if sum == 0.0 { 1.0 } else { sum }).collect()
}

/// Σ|w| of each row and of each column, in f64 and in a fixed order.
fn sums<T: Element>(values: &[T], d_in: usize) -> (Vec<f64>, Vec<f64>) {
    /// Rows whose column sums are added up on one thread.
    const ROWS_PER_TASK: usize = 64;
    let parts: Vec<(Vec<f64>, Vec<f64>)> = values
        .par_chunks(ROWS_PER_TASK * d_in)
        .map(|rows| {
            let mut columns = vec![0.0; d_in];
            let rows = rows.chunks_exact(d_in);
            let rows = rows.map(|row| add_row(row, &mut columns)).collect();
            (rows, columns)
        })
        .collect();
    let mut columns = vec![0.0; d_in];
    for (_, part) in &parts {
        columns
            .iter_mut()
            .zip(part)
            .for_each(|(sum, part)| *sum += part);
    }
    let rows = parts.into_iter().flat_map(|(rows, _)| rows).collect();
    (rows, columns)
}

/// Adds the magnitudes of a row to `columns` and gives their sum.
fn add_row<T: Element>(row: &[T], columns: &mut [f64]) -> f64 {
    let mut lanes = [0f64; LANES];
    T::widen(row, |column, wide| {
        let columns = &mut columns[column..][..wide.len()];
        vectorized(|| {
            for (columns, weights) in columns.chunks_mut(LANES).zip(wide.chunks(LANES)) {
                for ((lane, column), weight) in lanes.iter_mut().zip(columns).zip(weights) {
                    let magnitude = f64::from(weight.abs());
                    *lane += magnitude;
                    *column += magnitude;
                }
            }
        });
    });
    lanes.iter().sum()
}

#[cfg(test)]
mod tests;
