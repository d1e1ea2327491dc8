//! The score interval for a difference of proportions on the same documents (Tango 1998, Statistics in Medicine
//! 17:891), and its extension to a mean over strata.
//!
//! With b documents that became right, c that became wrong and n in all, δ̂ = (b − c) / n. The interval holds every δ
//! that the score test does not reject:
//!
//! ```text
//! (δ̂ − δ)² ≤ z² v(δ),   v(δ) = (2 q̃ + δ (1 − δ)) / n,   z = 1.96
//! ```
//!
//! where q̃ is the likeliest probability of becoming wrong if the true difference is δ:
//!
//! ```text
//! q̃ = (√(B² − 4 A C) − B) / (2 A),   A = 2n,   B = (2n − b + c) δ − b − c,   C = −c δ (1 − δ)
//! ```
//!
//! At δ = 0 it is McNemar's test without a correction. Its interval needs no discordant documents to have a width.
//!
//! For the mean over T tasks, δ̄ = Σ δ̂_t / T, the same is asked of a shift s common to all tasks:
//! s² ≤ z² Σ v_t(δ̂_t + s) / T². With one task that is the interval above. Each end is found by halving.

use super::normal::Z_95;

/// Halvings: from a range of 2 down to the spacing of doubles.
const HALVINGS: usize = 60;

/// Documents of one task that changed sides.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(in crate::statistics) struct Changes {
    /// Wrong before, right after.
    pub(in crate::statistics) gained: usize,
    /// Right before, wrong after.
    pub(in crate::statistics) lost: usize,
    /// Documents in all, at least one.
    pub(in crate::statistics) n: usize,
}

impl Changes {
    /// δ̂ = (gained − lost) / n, after minus before.
    pub(in crate::statistics) fn difference(self) -> f64 {
        (self.gained as f64 - self.lost as f64) / self.n as f64
    }

    fn swapped(self) -> Self {
        Self {
            gained: self.lost,
            lost: self.gained,
            n: self.n,
        }
    }

    /// v(δ): the variance of δ̂ if the true difference is δ.
    fn variance_at(self, delta: f64) -> f64 {
        let (b, c, n) = (self.gained as f64, self.lost as f64, self.n as f64);
        let half_b = ((2.0 * n - b + c) * delta - b - c) / 2.0;
        let product = -2.0 * n * c * delta * (1.0 - delta);
        let root = (half_b * half_b - product).max(0.0).sqrt();
        // Of the two ways to write the root of the equation, the one that does not subtract equal numbers.
        let q = if half_b > 0.0 {
            -product / (2.0 * n * (root + half_b))
        } else {
            (root - half_b) / (2.0 * n)
        };
        ((2.0 * q + delta * (1.0 - delta)) / n).max(0.0)
    }
}

/// δ̄ with the ends of its 95 % interval, of at least one task.
///
/// The ends lie in [−1, 1] and enclose δ̄; with before and after swapped they change sign.
pub(in crate::statistics) fn score_interval(tasks: &[Changes]) -> (f64, f64, f64) {
    let swapped: Vec<Changes> = tasks.iter().map(|task| task.swapped()).collect();
    let value = mean_difference(tasks);
    let low = (value - reach_below(tasks)).max(-1.0);
    let high = (value + reach_below(&swapped)).min(1.0);
    (value, low, high)
}

/// δ̄ = Σ δ̂_t / T.
fn mean_difference(tasks: &[Changes]) -> f64 {
    tasks.iter().map(|task| task.difference()).sum::<f64>() / tasks.len() as f64
}

/// How far below δ̄ the interval goes.
fn reach_below(tasks: &[Changes]) -> f64 {
    let count = tasks.len() as f64;
    let is_rejected = |reach: f64| {
        let variances = tasks
            .iter()
            .map(|task| task.variance_at((task.difference() - reach).max(-1.0)));
        reach * reach > Z_95 * Z_95 * variances.sum::<f64>() / (count * count)
    };
    // No difference lies more than 2 below another.
    let (mut kept, mut rejected) = (0.0, 2.0);
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(kept, rejected);
        if is_rejected(middle) {
            rejected = middle;
        } else {
            kept = middle;
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn interval(gained: usize, lost: usize, n: usize) -> (f64, f64) {
        let (_, low, high) = score_interval(&[Changes { gained, lost, n }]);
        (low, high)
    }

    fn assert_interval((gained, lost, n): (usize, usize, usize), low: f64, high: f64, within: f64) {
        let found = interval(gained, lost, n);
        assert!(
            (found.0 - low).abs() < within && (found.1 - high).abs() < within,
            "{gained}, {lost} of {n}: {found:?}, expected {low} to {high}"
        );
    }

    #[test]
    fn intervals_are_those_of_the_literature() {
        // Airway hyper-responsiveness of 21 children (Bentur et al. 2009), 1 and 7 discordant: Tango's interval in
        // Fagerland, Lydersen and Laake, Recommended tests and confidence intervals for paired binomial proportions
        // (Statistics in Medicine 2014).
        assert_interval((1, 7, 21), -0.517, -0.026, 5e-4);
    }

    #[test]
    fn intervals_are_those_of_an_independent_computation() {
        // scipy 1.17: q̃ as the root of the derivative of the likelihood (brentq), the ends as the roots of the score
        // statistic at ±norm.ppf(0.975) (brentq), without the closed form for q̃.
        for (counts, low, high) in [
            ((1, 7, 21), -0.517_232_276_4, -0.026_003_032_5),
            ((40, 20, 160), 0.030_864_533_1, 0.218_064_244_2),
            ((25, 28, 618), -0.028_732_021_3, 0.018_785_056_5),
            ((0, 0, 1), -0.793_450_685_6, 0.793_450_685_6),
            ((1, 0, 1), -0.586_901_371_2, 1.0),
            ((0, 0, 10), -0.277_532_799_9, 0.277_532_799_9),
            ((10, 0, 10), 0.444_934_400_3, 1.0),
            ((0, 5, 10), -0.763_406_909_5, -0.083_700_800_2),
            ((9, 3, 100), -0.009_115_601_4, 0.137_693_009_4),
            ((21, 39, 14_042), -0.002_432_841_3, -0.000_207_374_4),
        ] {
            assert_interval(counts, low, high, 1e-9);
        }
    }

    #[test]
    fn without_changes_the_interval_is_that_of_the_hand() {
        // q̃ = 0 for δ > 0, so δ² = z² δ (1 − δ) / n, δ = z² / (n + z²): 3.8415 / 103.8415 = 0.036994.
        assert_interval((0, 0, 100), -0.036_994, 0.036_994, 1e-6);
        // With T tasks of n documents the variances add: δ = z² / (n T + z²) to first order in δ.
        let tasks = [Changes {
            gained: 0,
            lost: 0,
            n: 100,
        }; 4];
        let (_, low, high) = score_interval(&tasks);
        assert!(
            (high - 0.0095).abs() < 2e-4 && (low + high).abs() < 1e-15,
            "{low} to {high}"
        );
    }

    fn changes() -> impl Strategy<Value = Changes> {
        (1_usize..400)
            .prop_flat_map(|n| (Just(n), 0..=n))
            .prop_flat_map(|(n, gained)| (Just(n), Just(gained), 0..=n - gained))
            .prop_map(|(n, gained, lost)| Changes { gained, lost, n })
    }

    proptest! {
        #[test]
        fn an_interval_encloses_the_estimate_within_the_possible(
            tasks in proptest::collection::vec(changes(), 1..8),
        ) {
            let (value, low, high) = score_interval(&tasks);
            prop_assert!((-1.0..=1.0).contains(&value));
            prop_assert!(-1.0 <= low && low <= value && value <= high && high <= 1.0, "{low} {value} {high}");
            prop_assert!(high > low);
        }

        #[test]
        fn swapping_the_models_mirrors_the_interval(tasks in proptest::collection::vec(changes(), 1..8)) {
            let swapped: Vec<Changes> = tasks.iter().map(|task| task.swapped()).collect();
            let ((value, low, high), mirrored) = (score_interval(&tasks), score_interval(&swapped));
            prop_assert_eq!(mirrored, (-value, -high, -low));
        }

        #[test]
        fn a_task_given_twice_has_the_interval_of_about_half_the_variance(task in changes()) {
            let (_, low, high) = score_interval(&[task]);
            let (_, low2, high2) = score_interval(&[task; 2]);
            prop_assert!(high2 - low2 < high - low);
        }
    }
}
