//! Losses in nats per document, and what is made of them: perplexity, bits.

use super::intervals::bootstrap::{self, Sums};
use super::scored::Scored;
use crate::domain::report::protocol::ProtocolMismatch;
use crate::domain::report::results::{Difference, Estimate};
use crate::tasks::Scale;

/// What one document cost a model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Loss {
    /// Negative log-likelihood of the document, in nats.
    pub nats: f64,
    /// What the loss is divided by, above 0: the document's words or bytes, or 1.
    pub units: f64,
}

/// R = Σ nats / Σ units on a scale, with its standard error by the delta method; `None` without documents, or if R is no
/// finite number.
///
/// R is a ratio of two sums over documents, with standard error sqrt(n / (n − 1) · Σ (x_i − R u_i)²) / Σ u_i for losses
/// x and units u; a function of it has that times its slope. With units of 1 and scale [`Scale::Nats`] that is s / √n.
pub fn losses_estimate(losses: &[Loss], scale: Scale) -> Option<Estimate> {
    let n = losses.len() as f64;
    let units: f64 = losses.iter().map(|loss| loss.units).sum();
    let rate = losses.iter().map(|loss| loss.nats).sum::<f64>() / units;
    let residuals = losses
        .iter()
        .map(|loss| (loss.nats - rate * loss.units).powi(2));
    let stderr = (n / (n - 1.0) * residuals.sum::<f64>()).sqrt() / units;
    let value = scale.value(rate);
    value.is_finite().then(|| Estimate {
        value,
        stderr: Some(stderr * scale.slope(rate)).filter(|stderr| stderr.is_finite()),
    })
}

/// The losses of two models on the same documents.
#[derive(Debug, Clone, PartialEq)]
pub struct PairedLosses(Vec<Sums>);

impl PairedLosses {
    /// Pairs the losses document by document; refused unless both were scored under one protocol.
    pub fn pair(
        before: Scored<'_, Loss>,
        after: Scored<'_, Loss>,
    ) -> Result<Self, ProtocolMismatch> {
        let pairs = before.pairs(&after)?;
        Ok(Self(
            pairs
                .map(|(before, after)| Sums::new(*before, *after))
                .collect(),
        ))
    }

    /// The difference on a scale, with a bootstrap interval over documents; `None` with fewer than two documents, or if
    /// a number is not finite.
    pub fn difference(&self, scale: Scale) -> Option<Difference> {
        let statistic =
            |sums: &Sums| scale.value(sums.rate_after()) - scale.value(sums.rate_before());
        let (value, low, high) =
            bootstrap::interval(&self.0, statistic, bootstrap::RESAMPLES, bootstrap::SEED)?;
        Some(Difference {
            value,
            low,
            high,
            method: "bootstrap".to_owned(),
            p_value: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::protocol;
    use super::*;

    fn unweighted(nats: &[f64]) -> Vec<Loss> {
        nats.iter().map(|&nats| Loss { nats, units: 1.0 }).collect()
    }

    fn pair(before: &[Loss], after: &[Loss]) -> PairedLosses {
        let protocol = protocol("lambada_openai", before.len());
        let scored = |scores| Scored {
            protocol: &protocol,
            scores,
        };
        PairedLosses::pair(scored(before), scored(after)).unwrap()
    }

    fn assert_close(found: f64, expected: f64) {
        assert!(
            (found / expected - 1.0).abs() < 1e-9,
            "{found}, expected {expected}"
        );
    }

    #[test]
    fn perplexity_of_targets_is_that_of_the_hand() {
        // R = (1 + 3 + 6) / 3 = 10/3; squares 114/9; s / √3 = sqrt(19/9) = 1.4529663; exp(10/3) = 28.031625.
        let estimate = losses_estimate(&unweighted(&[1.0, 3.0, 6.0]), Scale::Perplexity).unwrap();
        assert_close(estimate.value, 28.031_624_894_526_11);
        assert_close(
            estimate.stderr.unwrap(),
            28.031_624_894_526_11 * (19.0_f64 / 9.0).sqrt(),
        );
    }

    #[test]
    fn losses_per_word_weigh_documents_by_their_words() {
        // 10 nats in 4 words, 2 in 2: R = 12 / 6 = 2. Residuals 10 − 8 = 2, 2 − 4 = −2: sqrt(2/1 · 8) / 6 = 2/3.
        let losses = [
            Loss {
                nats: 10.0,
                units: 4.0,
            },
            Loss {
                nats: 2.0,
                units: 2.0,
            },
        ];
        let nats = losses_estimate(&losses, Scale::Nats).unwrap();
        assert_close(nats.value, 2.0);
        assert_close(nats.stderr.unwrap(), 2.0 / 3.0);
        let bits = losses_estimate(&losses, Scale::Bits).unwrap();
        assert_close(bits.value, 2.0 / std::f64::consts::LN_2);
        assert_close(bits.stderr.unwrap(), 2.0 / 3.0 / std::f64::consts::LN_2);
        let perplexity = losses_estimate(&losses, Scale::Perplexity).unwrap();
        assert_close(perplexity.value, 2.0_f64.exp());
        assert_close(perplexity.stderr.unwrap(), 2.0_f64.exp() * 2.0 / 3.0);
    }

    #[test]
    fn no_documents_or_a_perplexity_beyond_all_numbers_are_no_estimate() {
        assert_eq!(losses_estimate(&[], Scale::Perplexity), None);
        assert_eq!(
            losses_estimate(&unweighted(&[800.0, 900.0]), Scale::Perplexity),
            None
        );
        assert!(losses_estimate(&unweighted(&[800.0, 900.0]), Scale::Nats).is_some());
        assert_eq!(
            losses_estimate(&unweighted(&[1.0]), Scale::Nats)
                .unwrap()
                .stderr,
            None
        );
    }

    #[test]
    fn models_that_differ_by_a_constant_have_an_interval_of_no_width() {
        let (before, after) = (unweighted(&[1.0, 5.0, 2.0]), unweighted(&[1.5, 5.5, 2.5]));
        let difference = pair(&before, &after).difference(Scale::Nats).unwrap();
        for found in [difference.value, difference.low, difference.high] {
            assert!((found - 0.5).abs() < 1e-12, "{difference:?}");
        }
        assert_eq!(
            (difference.method.as_str(), difference.p_value),
            ("bootstrap", None)
        );
    }

    #[test]
    fn the_same_scores_give_the_same_interval_and_swapped_models_the_mirrored_one() {
        let before = unweighted(&[1.0, 5.0, 2.0, 0.3, 4.2, 2.2]);
        let after = unweighted(&[2.0, 5.1, 3.0, 0.2, 6.2, 2.5]);
        let difference = pair(&before, &after).difference(Scale::Perplexity).unwrap();
        assert_eq!(
            pair(&before, &after).difference(Scale::Perplexity).unwrap(),
            difference
        );
        let swapped = pair(&after, &before).difference(Scale::Perplexity).unwrap();
        assert_eq!(
            (swapped.value, swapped.low, swapped.high),
            (-difference.value, -difference.high, -difference.low)
        );
        assert!(difference.low < difference.value && difference.value < difference.high);
    }

    #[test]
    fn a_difference_of_many_documents_has_about_the_normal_interval() {
        // Differences 0.00, 0.01, …, 0.99: mean 0.495, s = 0.290115, s / 10 = 0.0290; 0.495 ± 1.98 · 0.0290.
        let before = vec![
            Loss {
                nats: 3.0,
                units: 1.0
            };
            100
        ];
        let nats: Vec<f64> = (0..100).map(|i| 3.0 + f64::from(i) / 100.0).collect();
        let difference = pair(&before, &unweighted(&nats))
            .difference(Scale::Nats)
            .unwrap();
        assert!((difference.value - 0.495).abs() < 1e-12);
        assert!((difference.low - 0.4374).abs() < 0.002, "{difference:?}");
        assert!((difference.high - 0.5526).abs() < 0.002, "{difference:?}");
    }

    #[test]
    fn one_document_has_no_interval() {
        let one = unweighted(&[1.0]);
        assert_eq!(pair(&one, &one).difference(Scale::Nats), None);
    }
}
