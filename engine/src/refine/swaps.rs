//! Swaps of a zero and a kept weight in one row, each of which lowers the squared output error.
//!
//! With `d` the weights of a row that are zeroed and 0 elsewhere, the error is `E = d G dᵀ`. If the kept weight `p`
//! becomes zero instead of `q`, with `c = d G`:
//!
//! ```text
//! ΔE = (2 w_p c_p + w_p² G_pp) + (−2 w_q c_q + w_q² G_qq) − 2 w_p w_q G_pq
//! ```
//!
//! The pairs that are tried are those of the [`CANDIDATES`] lowest first and second terms, in groups of an `N:M`
//! pattern those within each group; the best one is taken until none lowers the error (after SparseSwaps,
//! arXiv 2512.10922).

use rayon::prelude::*;

use super::Refinement;
use crate::algebra::squared_outputs;
use crate::error::Result;
use crate::mask::Mask;
use crate::pattern::Pattern;
use crate::simd::vectorized;
use crate::statistic::{Gram, InputStatistics, Statistic};

/// Weights of a row that may become zero, and zeros that may be kept, whose pairs are tried.
const CANDIDATES: usize = 16;

/// Swaps after which a row is taken as it is, relative to its features.
const SWAPS_PER_FEATURE: f64 = 0.25;

/// Swaps that lower the error.
#[derive(Debug, Clone, Copy)]
pub(super) struct Swaps;

impl Refinement for Swaps {
    fn name(&self) -> &'static str {
        "swaps"
    }

    fn doc(&self) -> &'static str {
        "Swaps of a zero and a kept weight of a row that lower the layer error (after arXiv 2512.10922)."
    }

    fn needs(&self) -> &'static [Statistic] {
        &[Statistic::Gram]
    }

    /// Two rows of the Gram matrix and two looks at all features for each swap.
    fn multiplications(&self, d_out: u64, d_in: u64) -> u64 {
        (d_out * d_in).saturating_mul(d_in)
    }

    fn refine(
        &self,
        mask: &mut Mask,
        dense: &[f32],
        seen: &InputStatistics,
        pattern: Pattern,
    ) -> Result<()> {
        let gram = seen.gram()?;
        let group = match pattern {
            Pattern::Unstructured => None,
            Pattern::KeptOfGroup { group, .. } => Some(group),
        };
        let diagonal: Vec<f32> = gram.diagonal().collect();
        mask.par_rows_mut(1)
            .zip(dense.par_chunks(gram.d_in()))
            .for_each(|(words, weights)| {
                let mut row = Row::new(words, weights, gram, &diagonal);
                let before = row.error();
                row.swap_all(group);
                // Sums that are kept up to date lose digits: what counts is the error itself.
                if row.error() < before {
                    row.write(words);
                }
            });
        Ok(())
    }
}

/// One row while it is worked on.
struct Row<'a> {
    weights: &'a [f32],
    gram: &'a Gram,
    /// Of `G`.
    diagonal: &'a [f32],
    is_zero: Vec<bool>,
    /// `c = d G`.
    sums: Vec<f32>,
    to_zero: Lowest,
    to_keep: Lowest,
}

/// A feature and its term of ΔE.
type Term = (f32, usize);

impl<'a> Row<'a> {
    fn new(words: &[u64], weights: &'a [f32], gram: &'a Gram, diagonal: &'a [f32]) -> Self {
        let bits = (0..weights.len()).map(|i| words[i / 64] >> (i % 64) & 1 == 1);
        let mut row = Self {
            weights,
            gram,
            diagonal,
            is_zero: bits.collect(),
            sums: vec![0.0; weights.len()],
            to_zero: Lowest::default(),
            to_keep: Lowest::default(),
        };
        for j in 0..weights.len() {
            if row.is_zero[j] {
                row.add(1.0, j);
            }
        }
        row
    }

    /// Row `j` of the Gram matrix.
    fn of(&self, j: usize) -> &'a [f32] {
        &self.gram.values()[j * self.weights.len()..][..self.weights.len()]
    }

    /// Adds `factor · w_j G_j` to the sums.
    fn add(&mut self, factor: f32, j: usize) {
        let (row, factor) = (self.of(j), factor * self.weights[j]);
        let sums = &mut self.sums;
        vectorized(|| {
            let pairs = sums.iter_mut().zip(row);
            pairs.for_each(|(sum, g)| *sum += factor * g);
        });
    }

    /// `d G dᵀ`.
    fn error(&self) -> f64 {
        let lost = self.weights.iter().zip(&self.is_zero);
        let lost: Vec<f32> = lost.map(|(w, zero)| if *zero { *w } else { 0.0 }).collect();
        squared_outputs(&lost, self.gram)[0]
    }

    fn swap_all(&mut self, group: Option<usize>) {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a quarter of a length"
        )]
        let most = (self.weights.len() as f64 * SWAPS_PER_FEATURE) as usize;
        for _ in 0..most {
            let best = match group {
                None => self.best_of(0..self.weights.len()),
                Some(group) => {
                    let groups = (0..self.weights.len()).step_by(group);
                    let best = groups.filter_map(|first| self.best_of(first..first + group));
                    best.min_by(|a, b| a.0.total_cmp(&b.0))
                }
            };
            let Some((_, zeroed, kept)) = best else { break };
            self.is_zero[zeroed] = true;
            self.is_zero[kept] = false;
            self.add(1.0, zeroed);
            self.add(-1.0, kept);
        }
    }

    /// The pair of a weight to zero and one to keep that lowers the error most.
    fn best_of(&mut self, features: std::ops::Range<usize>) -> Option<(f32, usize, usize)> {
        self.to_zero.0.clear();
        self.to_keep.0.clear();
        for j in features {
            let (w, square) = (self.weights[j], self.diagonal[j]);
            let linear = 2.0 * w * self.sums[j];
            if self.is_zero[j] {
                self.to_keep.offer(w * w * square - linear, j);
            } else {
                self.to_zero.offer(w * w * square + linear, j);
            }
        }
        let this = &*self;
        let pairs = this.to_zero.0.iter().flat_map(|&(term, p)| {
            let (row, w) = (this.of(p), this.weights[p]);
            let pairs = this.to_keep.0.iter();
            pairs.map(move |&(other, q)| (term + other - 2.0 * w * this.weights[q] * row[q], p, q))
        });
        let best = pairs.min_by(|a, b| a.0.total_cmp(&b.0));
        best.filter(|(change, ..)| *change < 0.0)
    }

    fn write(&self, words: &mut [u64]) {
        words.fill(0);
        for j in (0..self.weights.len()).filter(|&j| self.is_zero[j]) {
            words[j / 64] |= 1 << (j % 64);
        }
    }
}

/// The lowest terms, in ascending order.
#[derive(Default)]
struct Lowest(Vec<Term>);

impl Lowest {
    fn offer(&mut self, term: f32, j: usize) {
        if self.0.len() == CANDIDATES && self.0.last().is_some_and(|last| term >= last.0) {
            return;
        }
        let at = self.0.partition_point(|other| other.0 <= term);
        self.0.insert(at, (term, j));
        self.0.truncate(CANDIDATES);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::algebra::test_linear::{TestLinear, goal, on_any_threads};
    use crate::checkpoint::Weights;
    use crate::pattern::Goal;

    impl TestLinear {
        /// The weights before and after swaps.
        fn swapped(&self, method: &str, goal: Goal) -> [(Vec<f32>, Mask); 2] {
            let (before, chosen) = self.prune(method, goal);
            let mut mask = chosen.mask.clone();
            let refined = Swaps.refine(&mut mask, &self.values, &self.seen, goal.pattern);
            refined.unwrap();
            let mut after = Weights::F32(self.values.clone());
            mask.apply(&mut after);
            [(before, chosen.mask), (after.into_f32(), mask)]
        }
    }

    #[test]
    fn hand_computed() {
        // G = [[1, 0.9, 0], [0.9, 1, 0], [0, 0, 1]] and w = (1.2, -1.2, 1): zeroing the third costs 1, zeroing one of
        // the pair 1.44, both of them 2 · 1.44 · 0.1 = 0.29.
        let tokens = [1.0, 0.9, 0.0, 0.0, 0.19f32.sqrt(), 0.0, 0.0, 0.0, 1.0];
        let problem = TestLinear::new(&tokens, &[1.2, -1.2, 1.0], 3);
        let [(_, before), (_, after)] = problem.swapped("wanda", goal("unstructured", 0.34));
        assert!(
            before.contains(0, 2) && after == before,
            "no swap lowers it"
        );
        let problem = TestLinear::new(&tokens, &[1.2, -1.2, 1.3], 3);
        let [(before, _), (after, mask)] = problem.swapped("wanda", goal("unstructured", 0.67));
        assert!((problem.lost(&before) - 2.0 * 1.44 * 0.1).abs() < 1e-5);
        assert_eq!((after, mask.count()), (before, 2));
    }

    proptest! {
        #[test]
        fn the_error_falls_and_the_pattern_stays(
            d_out in 1usize..10,
            groups in 1usize..8,
            sparsity in 0.0f64..1.0,
            pattern in prop_oneof![Just("unstructured"), Just("2:4"), Just("1:5")],
            seed: u32,
        ) {
            let problem = TestLinear::random(d_out, 20 * groups, 100, seed);
            let goal = goal(pattern, sparsity);
            let [(before, first), (after, mask)] = problem.swapped("wanda", goal);
            prop_assert!(problem.lost(&after) <= problem.lost(&before) * (1.0 + 1e-6));
            prop_assert_eq!(first.count(), mask.count());
            if pattern != "unstructured" {
                problem.check_mask(&mask, goal);
            }
        }
    }

    #[test]
    fn it_finds_much_better_masks_on_correlated_features() {
        for pattern in ["unstructured", "2:4"] {
            let problem = TestLinear::random(32, 120, 400, 8);
            let [(before, _), (after, mask)] = problem.swapped("wanda", goal(pattern, 0.5));
            let (before, after) = (problem.lost(&before), problem.lost(&after));
            assert!(after < 0.8 * before, "{pattern}: {before}, {after}");
            problem.check_mask(&mask, goal(pattern, 0.5));
        }
    }

    #[test]
    fn it_is_the_same_for_any_number_of_threads() {
        let problem = TestLinear::random(40, 100, 200, 9);
        on_any_threads(|| problem.swapped("wanda", goal("unstructured", 0.5)));
    }
}
