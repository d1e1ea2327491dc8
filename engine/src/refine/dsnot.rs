//! DSnoT: dynamic sparse no training (arXiv 2310.08915).
//!
//! A row of the mask changes, a weight at a time, so that the sum of its outputs over a window comes near to that of the
//! dense row. With the mean `S_j` over windows of the sums of a feature, `c_j = w_j S_j` is what a weight adds to that, and
//! `e = Σ c_j` over the zeroed ones is what is missing. In each cycle
//!
//! - one zeroed weight is kept again: the one with the highest `c_j / σ²_j` where `e > 0`, with the lowest where `e < 0`
//! - one kept weight is zeroed: that with the lowest `|w_j| ‖x_j‖` of those with the sign of `c_j` that lowers `|e|`; in an
//!   `N:M` pattern, of all in the group of the other one, and only while `e` keeps its sign
//!
//! Both orders are those of the mask that it begins with. Where no kept weight with that sign of `c_j` is left, those with
//! the other one follow, the highest score first, as in the original. A row is done when `|e| ≤ 0.1`, after 50 cycles, or when
//! it has no zeroed weight left to keep: there the original goes on with weights that are kept, and its count of zeros drifts.
//!
//! It aims at the mean of the outputs: the squared layer error often rises.

use rayon::prelude::*;

use super::Refinement;
use crate::error::Result;
use crate::mask::Mask;
use crate::pattern::Pattern;
use crate::statistic::{InputStatistics, Statistic};

/// What may be missing of a row's output, summed over a window.
const ENOUGH: f64 = 0.1;

/// Exchanges that bring the sum of the outputs near that of the dense row.
#[derive(Debug, Clone, Copy)]
pub struct Dsnot {
    /// Exchanges of a row at most.
    pub cycles: usize,
}

impl Dsnot {
    /// As its authors run it.
    pub const DEFAULT: Self = Self { cycles: 50 };
}

impl Refinement for Dsnot {
    fn name(&self) -> &'static str {
        "dsnot"
    }

    fn doc(&self) -> &'static str {
        "Exchanges that bring the mean output of a row near the dense one's; the layer error may rise (arXiv 2310.08915)."
    }

    /// The Gram matrix tells what becomes of the layer error.
    fn needs(&self) -> &'static [Statistic] {
        &[
            Statistic::SumOfSquares,
            Statistic::WindowMoments,
            Statistic::Gram,
        ]
    }

    fn multiplications(&self, _d_out: u64, _d_in: u64) -> u64 {
        0
    }

    fn refine(
        &self,
        mask: &mut Mask,
        dense: &[f32],
        seen: &InputStatistics,
        pattern: Pattern,
    ) -> Result<()> {
        let moments = seen.window_moments()?;
        let norms = seen.sum_of_squares()?.norms();
        let (sums, variances) = (moments.sums(), moments.variances());
        let group = match pattern {
            Pattern::Unstructured => None,
            Pattern::KeptOfGroup { group, .. } => Some(group),
        };
        mask.par_rows_mut(1)
            .zip(dense.par_chunks(norms.len()))
            .for_each(|(words, weights)| {
                let terms = |factors: &[f32], of: fn(f32) -> f32| -> Vec<f32> {
                    let pairs = weights.iter().zip(factors);
                    pairs.map(|(w, factor)| of(*w) * factor).collect()
                };
                let mut row = Row::new(words, terms(&sums, |w| w), terms(&norms, f32::abs));
                row.exchange(&variances, group, self.cycles);
                for (j, is_zero) in row.is_zero.iter().enumerate() {
                    let bit = 1 << (j % 64);
                    if *is_zero {
                        words[j / 64] |= bit;
                    } else {
                        words[j / 64] &= !bit;
                    }
                }
            });
        Ok(())
    }
}

/// One row while it is worked on.
struct Row {
    /// `c`.
    contributions: Vec<f32>,
    /// `|w_j| ‖x_j‖`.
    scores: Vec<f32>,
    is_zero: Vec<bool>,
}

impl Row {
    fn new(words: &[u64], contributions: Vec<f32>, scores: Vec<f32>) -> Self {
        let bits = (0..scores.len()).map(|j| words[j / 64] >> (j % 64) & 1 == 1);
        Self {
            is_zero: bits.collect(),
            contributions,
            scores,
        }
    }

    fn exchange(&mut self, variances: &[f32], group: Option<usize>, cycles: usize) {
        let mut to_keep = self.to_keep(variances);
        let mut to_zero = self.to_zero();
        // What an exchange has touched, or was zeroed in the beginning, is not zeroed.
        let mut is_open: Vec<bool> = self.is_zero.iter().map(|zero| !zero).collect();
        let zeroed = (0..self.is_zero.len()).filter(|&j| self.is_zero[j]);
        let mut missing: f64 = zeroed.map(|j| f64::from(self.contributions[j])).sum();
        let begins_above = missing > 0.0;
        for _ in 0..cycles {
            if missing.abs() <= ENOUGH {
                return;
            }
            let is_above = missing > 0.0;
            let Some(kept) = to_keep[usize::from(is_above)].next() else {
                return;
            };
            let zeroed = match group {
                None => to_zero[usize::from(is_above)].find(|&j| is_open[j]),
                Some(group) => self.lowest_of_group(kept / group * group, group, &is_open),
            };
            let Some(zeroed) = zeroed else { return };
            let change = self.contributions[zeroed] - self.contributions[kept];
            let after = missing + f64::from(change);
            if group.is_some() && (after == 0.0 || (after > 0.0) != begins_above) {
                return;
            }
            self.is_zero[kept] = false;
            self.is_zero[zeroed] = true;
            is_open[zeroed] = false;
            missing = after;
        }
    }

    /// Zeroed weights that may be kept where too much is there, and where too little is.
    fn to_keep(&self, variances: &[f32]) -> [std::vec::IntoIter<usize>; 2] {
        let measure = |j: usize| self.contributions[j] / variances[j];
        [-1.0, 1.0].map(|sign| {
            let all = (0..self.is_zero.len()).filter(|&j| self.is_zero[j]);
            let mut found: Vec<usize> = all
                .filter(|&j| sign * self.contributions[j] > 0.0)
                .collect();
            found.sort_by(|&a, &b| measure(a).total_cmp(&measure(b)));
            if sign > 0.0 {
                found.reverse();
            }
            found.into_iter()
        })
    }

    /// Kept weights that may be zeroed where too much is there, and where too little is: the lowest scores first of those
    /// that help, then the highest first of the others.
    fn to_zero(&self) -> [std::vec::IntoIter<usize>; 2] {
        let [below, above] = [-1.0, 1.0].map(|sign| {
            let all = (0..self.is_zero.len()).filter(|&j| !self.is_zero[j]);
            let mut found: Vec<usize> = all
                .filter(|&j| sign * self.contributions[j] > 0.0)
                .collect();
            found.sort_by(|&a, &b| self.scores[a].total_cmp(&self.scores[b]));
            found
        });
        [(&above, &below), (&below, &above)].map(|(first, then)| {
            let all = first.iter().chain(then.iter().rev());
            all.copied().collect::<Vec<_>>().into_iter()
        })
    }

    /// The open weight with the lowest score in a group.
    fn lowest_of_group(&self, first: usize, group: usize, is_open: &[bool]) -> Option<usize> {
        let open = (first..first + group).filter(|&j| is_open[j]);
        open.min_by(|&a, &b| self.scores[a].total_cmp(&self.scores[b]))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::algebra::test_linear::{TestLinear, goal, on_any_threads};
    use crate::pattern::Goal;

    fn refined(problem: &TestLinear, goal: Goal) -> (Mask, Mask) {
        let before = problem.prune("wanda", goal).1.mask;
        let mut after = before.clone();
        let refined =
            Dsnot::DEFAULT.refine(&mut after, &problem.values, &problem.seen, goal.pattern);
        refined.unwrap();
        (before, after)
    }

    fn zeros(mask: &Mask, d_in: usize) -> Vec<usize> {
        (0..d_in).filter(|&j| mask.contains(0, j)).collect()
    }

    #[test]
    fn hand_computed() {
        // Sums 1, 3, 4, -1; variances 1/4, 1/4, 1, 9/4; scores 0.5, 0.9, 3.2, 2.2; c = 0.5, 1.2, 4, -1.
        // The first two are zeroed: e = 1.7. The second has the highest c / σ² and is kept again, the last has the only
        // c below 0: e = 1.7 - 1 - 1.2 = -0.5. No zero has a c below 0.
        let tokens = [1.0, 2.0, 3.0, 1.0, 0.0, 1.0, 1.0, -2.0];
        let problem = TestLinear::new(&tokens, &[0.5, 0.4, 1.0, 1.0], 4);
        let (before, after) = refined(&problem, goal("unstructured", 0.5));
        assert_eq!(
            (zeros(&before, 4), zeros(&after, 4)),
            (vec![0, 1], vec![0, 3])
        );
        // In the group the same exchange would change the sign of e.
        let (before, after) = refined(&problem, goal("2:4", 0.5));
        assert_eq!(after, before);
        // Inputs of a tenth and of a twentieth: e = 0.17, and 0.085, which is near enough.
        let tokens = tokens.map(|x| 0.1 * x);
        let problem = TestLinear::new(&tokens, &[0.5, 0.4, 1.0, 1.0], 4);
        let (_, after) = refined(&problem, goal("unstructured", 0.5));
        assert_eq!(zeros(&after, 4), [0, 3]);
        let problem = TestLinear::new(&tokens.map(|x| 0.5 * x), &[0.5, 0.4, 1.0, 1.0], 4);
        let (before, after) = refined(&problem, goal("unstructured", 0.5));
        assert_eq!(after, before);
    }

    proptest! {
        #[test]
        fn the_count_of_each_row_and_the_pattern_stay(
            d_out in 1usize..10,
            groups in 1usize..8,
            sparsity in 0.0f64..1.0,
            pattern in prop_oneof![Just("unstructured"), Just("2:4"), Just("1:5")],
            seed: u32,
        ) {
            let problem = TestLinear::random(d_out, 20 * groups, 100, seed);
            let goal = goal(pattern, sparsity);
            let (before, after) = refined(&problem, goal);
            let rows = |mask: &Mask| -> Vec<f32> {
                let kept = mask.kept(0, d_out);
                kept.chunks_exact(20 * groups).map(|row| row.iter().sum()).collect()
            };
            prop_assert_eq!(rows(&before), rows(&after));
            if pattern != "unstructured" {
                problem.check_mask(&after, goal);
            }
        }
    }

    #[test]
    fn it_is_the_same_for_any_number_of_threads() {
        let problem = TestLinear::random(40, 100, 200, 9);
        let (before, after) = on_any_threads(|| refined(&problem, goal("unstructured", 0.5)));
        assert_ne!(before, after);
    }
}
