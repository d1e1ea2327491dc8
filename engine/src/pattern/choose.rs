//! Choosing the weights of a linear with the lowest scores.

use std::fmt;
use std::str::FromStr;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::element::Element;
use super::keys::fill_keys;
use super::{Goal, Pattern, group, linear, row};
use crate::checkpoint::Weights;
use crate::mask::Mask;
use crate::simd::Isa;

/// Ranks weights: those with the lowest scores become zero.
pub(crate) trait Score: Sync {
    /// Writes the scores of `weights`, which stand in row `row` from column `column` on; none is negative.
    fn fill(&self, row: usize, column: usize, weights: &[f32], scores: &mut [f32]);
}

/// The weights whose scores are compared where the pattern is unstructured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ComparisonGroup {
    /// Those of one output feature.
    Row,
    /// All of the linear.
    Linear,
}

impl ComparisonGroup {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Row, Self::Linear];

    /// Its word in requests and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Row => "row",
            Self::Linear => "linear",
        }
    }
}

impl fmt::Display for ComparisonGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for ComparisonGroup {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let mut all = Self::ALL.into_iter();
        all.find(|group| group.name() == word).ok_or_else(|| {
            let known = Self::ALL.map(Self::name).join(", ");
            format!("unknown comparison group {word:?}, expected one of {known}")
        })
    }
}

/// A score was NaN or infinite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NonFiniteScore;

/// Chooses the weights `[d_out, d_in]` with the lowest scores, as many as `goal` asks for.
pub(crate) fn choose(
    weights: &Weights,
    d_in: usize,
    goal: Goal,
    among: ComparisonGroup,
    score: &impl Score,
) -> Result<Mask, NonFiniteScore> {
    choose_on(Isa::Native, weights, d_in, goal, among, score)
}

/// Chooses the `zeros` weights of `[n, d_in]` with the lowest scores.
pub(crate) fn choose_in_linear(
    values: &[f32],
    d_in: usize,
    zeros: usize,
    score: &impl Score,
) -> Result<Mask, NonFiniteScore> {
    linear::choose(Isa::Native, &Matrix { values, d_in }, zeros, score)
}

/// [`choose`] with chosen instructions; the result is the same for all.
pub(super) fn choose_on(
    isa: Isa,
    weights: &Weights,
    d_in: usize,
    goal: Goal,
    among: ComparisonGroup,
    score: &impl Score,
) -> Result<Mask, NonFiniteScore> {
    match weights {
        Weights::F32(values) => of_values(isa, values, d_in, goal, among, score),
        Weights::F16(values) => of_values(isa, values, d_in, goal, among, score),
        Weights::Bf16(values) => of_values(isa, values, d_in, goal, among, score),
    }
}

fn of_values<T: Element>(
    isa: Isa,
    values: &[T],
    d_in: usize,
    goal: Goal,
    among: ComparisonGroup,
    score: &impl Score,
) -> Result<Mask, NonFiniteScore> {
    let matrix = Matrix { values, d_in };
    match (goal.pattern, among) {
        (Pattern::KeptOfGroup { kept, group }, _) => {
            debug_assert!(d_in.is_multiple_of(group), "checked before the work begins");
            by_rows(&matrix, |index, row, words, scratch| {
                fill_keys(isa, score, index, row, &mut scratch.keys)?;
                group::mark(isa, &scratch.keys, group - kept, group, words);
                Ok(())
            })
        }
        (Pattern::Unstructured, ComparisonGroup::Row) => {
            let d_out = values.len() / d_in;
            by_rows(&matrix, |index, row, words, scratch| {
                fill_keys(isa, score, index, row, &mut scratch.keys)?;
                row::mark(isa, goal.zeros_of_row(index, d_out, d_in), scratch, words);
                Ok(())
            })
        }
        (Pattern::Unstructured, ComparisonGroup::Linear) => {
            let zeros = goal.zeros_until(values.len(), values.len());
            linear::choose(isa, &matrix, zeros, score)
        }
    }
}

/// `floor(n · sparsity)` in double precision, as Python's `int(n * sparsity)`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "0 ≤ n · sparsity < n"
)]
pub(crate) fn zeros_of(n: usize, sparsity: f64) -> usize {
    (n as f64 * sparsity) as usize
}

/// The values of a linear, `[d_out, d_in]`.
pub(super) struct Matrix<'a, T> {
    pub(super) values: &'a [T],
    pub(super) d_in: usize,
}

impl<T: Element> Matrix<'_, T> {
    /// Rows that are worth a task of their own.
    pub(super) fn rows_per_task(&self) -> usize {
        const WEIGHTS_PER_TASK: usize = 1 << 16;
        (WEIGHTS_PER_TASK / self.d_in).max(1)
    }

    pub(super) fn empty_mask(&self) -> Mask {
        Mask::none(self.values.len() / self.d_in, self.d_in)
    }
}

/// Buffers of one thread, kept from row to row.
#[derive(Default)]
pub(super) struct Scratch {
    pub(super) keys: Vec<u32>,
    pub(super) candidates: Vec<u32>,
}

/// Marks the rows in parallel; `mark_row` sees a row's number, its values and its words of the mask.
fn by_rows<T: Element>(
    matrix: &Matrix<'_, T>,
    mark_row: impl Fn(usize, &[T], &mut [u64], &mut Scratch) -> Result<(), NonFiniteScore> + Sync,
) -> Result<Mask, NonFiniteScore> {
    let rows_per_task = matrix.rows_per_task();
    let mut mask = matrix.empty_mask();
    let words_per_row = mask.words_per_row();
    mask.par_rows_mut(rows_per_task)
        .zip(matrix.values.par_chunks(matrix.d_in * rows_per_task))
        .enumerate()
        .try_for_each_init(Scratch::default, |scratch, (task, (words, values))| {
            words
                .chunks_exact_mut(words_per_row)
                .zip(values.chunks_exact(matrix.d_in))
                .enumerate()
                .try_for_each(|(at, (words, row))| {
                    mark_row(task * rows_per_task + at, row, words, scratch)
                })
        })?;
    Ok(mask)
}
