//! The divergence of two models on a text.

use super::estimate;
use crate::domain::report::results::DivergenceResult;

/// Sums up a text: `window_kl`, the mean Kullback-Leibler divergence of each window in nats per predicted token, all
/// windows of one length; `top1_agreement`, the share of these tokens where both models put the same one first. `None`
/// without windows.
///
/// The standard error takes windows as independent, not tokens: neighbouring tokens share their context.
pub fn divergence(window_kl: &[f64], top1_agreement: f64) -> Option<DivergenceResult> {
    let mean = estimate::mean(window_kl)?;
    Some(DivergenceResult {
        kl: mean.value,
        kl_stderr: mean.stderr,
        top1_agreement,
    })
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "these numbers are exact")]
mod tests {
    use super::*;

    #[test]
    fn a_divergence_is_the_mean_over_windows_with_their_spread() {
        // mean 0.3; squares 0.01 + 0 + 0.01; s² = 0.01; s / √3 = 0.1 / 1.7320508
        let found = divergence(&[0.2, 0.3, 0.4], 0.75).unwrap();
        assert!((found.kl - 0.3).abs() < 1e-15);
        assert!((found.kl_stderr.unwrap() - 0.057_735_026_9).abs() < 1e-9);
        assert_eq!(found.top1_agreement, 0.75);
        assert_eq!(divergence(&[0.2], 1.0).unwrap().kl_stderr, None);
        assert_eq!(divergence(&[], 0.0), None);
    }
}
