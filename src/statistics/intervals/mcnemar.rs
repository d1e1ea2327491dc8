//! McNemar's exact test (McNemar 1947).

/// Two-sided p-value of no difference, where `b` documents changed sides one way and `c` the other.
///
/// Without a difference each of the b + c changes goes either way with probability ½, so
/// p = min(1, 2 · P(X ≤ min(b, c))) with X ~ Binomial(b + c, ½).
pub(in crate::statistics) fn exact_p(b: usize, c: usize) -> f64 {
    let (n, k) = (b + c, b.min(c));
    // ln C(n, k) = Σ_{i=1..k} ln((n − k + i) / i); logarithms, as C(n, k) and 2ⁿ leave the range of f64.
    let ln_choose: f64 = (1..=k).map(|i| ((n - k + i) as f64 / i as f64).ln()).sum();
    // P(X ≤ k) / P(X = k) = 1 + k/(n−k+1) · (1 + (k−1)/(n−k+2) · (1 + …)), from the innermost out.
    let tail = (1..=k).fold(1.0, |inner, i| 1.0 + inner * i as f64 / (n - i + 1) as f64);
    let ln_p = ln_choose - n as f64 * std::f64::consts::LN_2 + f64::ln(tail);
    (2.0 * ln_p.exp()).min(1.0)
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "these numbers are exact")]
mod tests {
    use super::*;

    #[test]
    fn p_values_are_those_of_the_hand() {
        // No change, or as many either way: 1. Five of five: 2 / 2⁵. One of eight: 2 (1 + 8) / 2⁸.
        assert_eq!(exact_p(0, 0), 1.0);
        assert_eq!(exact_p(4, 4), 1.0);
        assert!((exact_p(5, 0) - 2.0 / 32.0).abs() < 1e-15);
        assert!((exact_p(1, 7) - 18.0 / 256.0).abs() < 1e-15);
        assert!((exact_p(7, 1) - 18.0 / 256.0).abs() < 1e-15);
    }

    #[test]
    fn p_values_are_those_of_scipy() {
        // scipy 1.17: scipy.stats.binomtest(k, n, 0.5).pvalue
        for (k, n, expected) in [
            (20, 60, 0.013_489_293_739_131_86),
            (3, 12, 0.145_996_093_75),
            (500, 1200, 8.535_366_081_034_316e-9),
            (4100, 8000, 0.026_082_634_288_139_398),
        ] {
            let p = exact_p(k, n - k);
            assert!(
                (p / expected - 1.0).abs() < 1e-9,
                "{k} of {n}: {p}, {expected}"
            );
        }
    }

    #[test]
    fn a_thousand_changes_one_way_leave_a_p_value_and_not_a_nan() {
        assert_eq!(exact_p(0, 2000), 0.0);
        assert!(exact_p(1000, 1000) == 1.0);
    }
}
