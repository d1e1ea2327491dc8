//! The lowest keys of a whole linear.
//!
//! One parallel pass counts the keys by their upper half; that tells in which of the 65,536 ranges the cut lies.
//! The keys of that range alone are collected and selected from.

use rayon::prelude::*;

use super::choose::{Matrix, NonFiniteScore, Score};
use super::element::Element;
use super::keys::{fill_keys, mark_below};
use crate::mask::Mask;
use crate::simd::Isa;

const RANGES: usize = 1 << 16;

/// Chooses the `zeros` weights with the lowest keys; of equal ones, those that stand first.
pub(super) fn choose<T: Element>(
    isa: Isa,
    matrix: &Matrix<'_, T>,
    zeros: usize,
    score: &impl Score,
) -> Result<Mask, NonFiniteScore> {
    let rows = Rows { isa, matrix, score };
    let counts = rows.count()?;
    let mut mask = matrix.empty_mask();
    if zeros == 0 {
        return Ok(mask);
    }
    let (range, below) = range_of_cut(&counts, zeros);
    let candidates = rows.in_range(range)?;
    let mut all = candidates.concat();
    let (lower, &mut threshold, _) = all.select_nth_unstable(zeros - below - 1);
    let mut ties_left = zeros - below - lower.iter().filter(|&&key| key < threshold).count();
    let ties: Vec<usize> = candidates
        .iter()
        .map(|keys| {
            let equal = keys.iter().filter(|&&key| key == threshold).count();
            let ties = equal.min(ties_left);
            ties_left -= ties;
            ties
        })
        .collect();
    rows.mark(&mut mask, threshold, &ties)?;
    Ok(mask)
}

struct Rows<'a, T, S> {
    isa: Isa,
    matrix: &'a Matrix<'a, T>,
    score: &'a S,
}

impl<T: Element, S: Score> Rows<'_, T, S> {
    /// The values of each task, with the number of its first row.
    fn tasks(&self) -> impl IndexedParallelIterator<Item = (usize, &[T])> {
        let rows_per_task = self.matrix.rows_per_task();
        self.matrix
            .values
            .par_chunks(self.matrix.d_in * rows_per_task)
            .enumerate()
            .map(move |(task, values)| (task * rows_per_task, values))
    }

    /// Shows the keys of each row of a task.
    fn each(
        &self,
        (first, values): (usize, &[T]),
        keys: &mut Vec<u32>,
        mut see: impl FnMut(&[u32]),
    ) -> Result<(), NonFiniteScore> {
        for (at, row) in values.chunks_exact(self.matrix.d_in).enumerate() {
            fill_keys(self.isa, self.score, first + at, row, keys)?;
            see(keys);
        }
        Ok(())
    }

    /// How many keys lie in each range.
    fn count(&self) -> Result<Vec<u32>, NonFiniteScore> {
        let empty = || (vec![0u32; RANGES], Vec::new());
        self.tasks()
            .try_fold(empty, |(mut counts, mut keys), task| {
                self.each(task, &mut keys, |keys| {
                    for key in keys {
                        counts[(key >> 16) as usize] += 1;
                    }
                })?;
                Ok((counts, keys))
            })
            .map(|counted| counted.map(|(counts, _)| counts))
            .try_reduce(
                || vec![0; RANGES],
                |mut a, b| {
                    a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
                    Ok(a)
                },
            )
    }

    /// The keys of a range, task by task.
    fn in_range(&self, range: usize) -> Result<Vec<Vec<u32>>, NonFiniteScore> {
        self.tasks()
            .map_init(Vec::new, |keys, task| {
                let mut found = Vec::new();
                self.each(task, keys, |keys| {
                    let keys = keys.iter().copied();
                    found.extend(keys.filter(|key| (key >> 16) as usize == range));
                })?;
                Ok(found)
            })
            .collect()
    }

    /// Marks the keys below `threshold`, and as many of the equal ones as each task has `ties`.
    fn mark(&self, mask: &mut Mask, threshold: u32, ties: &[usize]) -> Result<(), NonFiniteScore> {
        let words_per_row = mask.words_per_row();
        mask.par_rows_mut(self.matrix.rows_per_task())
            .zip(self.tasks())
            .zip(ties)
            .try_for_each_init(Vec::new, |keys, ((words, task), &ties)| {
                let mut rows = words.chunks_exact_mut(words_per_row);
                let mut left = ties;
                self.each(task, keys, |keys| {
                    let Some(words) = rows.next() else { return };
                    let equal = keys.iter().filter(|&&key| key == threshold).count();
                    let ties = equal.min(left);
                    left -= ties;
                    mark_below(self.isa, keys, threshold, ties, words);
                })
            })
    }
}

/// The range that holds the `zeros`-th lowest key, and how many keys lie below it.
fn range_of_cut(counts: &[u32], zeros: usize) -> (usize, usize) {
    let mut below = 0;
    for (range, &count) in counts.iter().enumerate() {
        if below + count as usize >= zeros {
            return (range, below);
        }
        below += count as usize;
    }
    unreachable!("there are more than {below} values, {zeros} of them become zero")
}
