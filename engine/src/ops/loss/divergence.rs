//! How far the predictions of one model are from those of another, position by position.

use candle_core::{D, DType, Result, Storage, Tensor};
use rayon::prelude::*;

use super::nll::negative_log_likelihood;
use super::softmax_row::SoftmaxRow;
use crate::ops::{argmax, contiguous, on_cpu};
use crate::simd::{exp, sum_by_pairs, vectorized};

/// Two predictions of the same token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PairedPrediction {
    /// −ln p(target) by the first model, in nats.
    pub nll_p: f32,
    /// −ln q(target) by the second.
    pub nll_q: f32,
    /// KL(p‖q) = Σ_v p(v) ln(p(v) / q(v)) in nats, at least 0; NaN if a logit is not finite.
    pub kl: f32,
    /// Whether both have their first largest logit at the same token.
    pub agrees: bool,
}

/// Compares the rows of two tensors of logits.
///
/// - `p`, `q`: `[n, vocab]`, f32
/// - `targets`: `n` token ids below `vocab`
///
/// The divergence is summed as `p · (ln p − ln q) + q − p`. Since Σp = Σq = 1 the sum is the same; but no term is
/// negative, and an error in a log-sum-exp enters only squared.
pub fn paired_predictions(
    p: &Tensor,
    q: &Tensor,
    targets: &[u32],
) -> Result<Vec<PairedPrediction>> {
    let (rows, vocab) = p.dims2()?;
    if q.dims2()? != (rows, vocab) || targets.len() != rows {
        let (p, q, n) = (p.shape(), q.shape(), targets.len());
        candle_core::bail!("logits {p:?} and {q:?} for {n} targets");
    }
    if targets.iter().any(|&target| target as usize >= vocab) {
        candle_core::bail!("a target outside the vocabulary of {vocab}");
    }
    if !on_cpu(p) {
        return composed(p, q, targets);
    }
    let ((p_storage, p_layout), (q_storage, q_layout)) =
        (p.storage_and_layout(), q.storage_and_layout());
    let (Storage::Cpu(p_storage), Storage::Cpu(q_storage)) = (&*p_storage, &*q_storage) else {
        candle_core::bail!("a CPU tensor without CPU storage")
    };
    let (p, q) = (
        contiguous(p_storage, p_layout)?,
        contiguous(q_storage, q_layout)?,
    );
    let rows = p.par_chunks_exact(vocab).zip(q.par_chunks_exact(vocab));
    Ok(rows
        .zip(targets)
        .map(|((p, q), &target)| compare(p, q, target))
        .collect())
}

fn compare(p: &[f32], q: &[f32], target: u32) -> PairedPrediction {
    let (of_p, of_q) = (SoftmaxRow::of(p), SoftmaxRow::of(q));
    let (p_ln, q_ln) = (of_p.sum.ln(), of_q.sum.ln());
    let kl = vectorized(|| {
        sum_by_pairs(p, q, |x, y| {
            let (ln_p, ln_q) = ((x - of_p.top) - p_ln, (y - of_q.top) - q_ln);
            let (p, q) = (exp(ln_p), exp(ln_q));
            p * (ln_p - ln_q) + (q - p)
        })
    });
    let greedy = |row: &[f32], softmax: &SoftmaxRow| row.iter().position(|&x| x >= softmax.top);
    PairedPrediction {
        nll_p: negative_log_likelihood(p, &of_p, target),
        nll_q: negative_log_likelihood(q, &of_q, target),
        // Rounding can leave the sum a little below 0; NaN stays NaN.
        kl: if kl < 0.0 { 0.0 } else { kl },
        agrees: greedy(p, &of_p) == greedy(q, &of_q),
    }
}

fn composed(p: &Tensor, q: &Tensor, targets: &[u32]) -> Result<Vec<PairedPrediction>> {
    let index = Tensor::new(targets, p.device())?.unsqueeze(1)?;
    let log_softmax = |x: &Tensor| {
        let not_finite = (x * 0.0)?.sum_keepdim(D::Minus1)?;
        x.broadcast_sub(&x.log_sum_exp(D::Minus1)?.unsqueeze(1)?)?
            .broadcast_add(&not_finite)
    };
    let (p, q) = (p.to_dtype(DType::F32)?, q.to_dtype(DType::F32)?);
    let agrees = argmax::composed(&p)?.eq(&argmax::composed(&q)?)?;
    let (ln_p, ln_q) = (log_softmax(&p)?, log_softmax(&q)?);
    let (p, q) = (ln_p.exp()?, ln_q.exp()?);
    let terms = ((&p * (&ln_p - &ln_q)?)? + (q - p)?)?;
    let kl = terms.sum(D::Minus1)?.to_vec1::<f32>()?;
    let nll = |ln: &Tensor| ln.gather(&index, 1)?.squeeze(1)?.neg()?.to_vec1::<f32>();
    let (nll_p, nll_q) = (nll(&ln_p)?, nll(&ln_q)?);
    let rows = nll_p
        .into_iter()
        .zip(nll_q)
        .zip(kl)
        .zip(agrees.to_vec1::<u8>()?);
    Ok(rows
        .map(|(((nll_p, nll_q), kl), agrees)| PairedPrediction {
            nll_p,
            nll_q,
            kl: if kl < 0.0 { 0.0 } else { kl },
            agrees: agrees == 1,
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn logits(rows: &[&[f32]]) -> Tensor {
        let values: Vec<f32> = rows.concat();
        Tensor::from_vec(values, (rows.len(), rows[0].len()), &Device::Cpu).unwrap()
    }

    #[test]
    fn hand_computed_divergence_of_two_words() {
        // p = (1/4, 3/4), q = (1/2, 1/2): KL = 1/4 ln(1/2) + 3/4 ln(3/2).
        let (p, q) = (logits(&[&[2.0, 2.0 + 3f32.ln()]]), logits(&[&[-5.0, -5.0]]));
        let expected = 0.25 * 0.5f32.ln() + 0.75 * 1.5f32.ln();
        for pairs in [paired_predictions(&p, &q, &[0]), composed(&p, &q, &[0])] {
            let pair = pairs.unwrap()[0];
            assert!((pair.kl - expected).abs() < 1e-6, "{pair:?}");
            assert!((pair.nll_p - 4f32.ln()).abs() < 1e-6, "{pair:?}");
            assert!((pair.nll_q - 2f32.ln()).abs() < 1e-6, "{pair:?}");
            assert!(!pair.agrees);
        }
    }

    #[test]
    fn a_prediction_does_not_diverge_from_itself_and_little_from_a_near_one() {
        let p = Tensor::randn(0f32, 5.0, (20, 3001), &Device::Cpu).unwrap();
        for pair in paired_predictions(&p, &p, &[7; 20]).unwrap() {
            assert!(pair.kl <= 1e-7 && pair.agrees, "{pair:?}");
        }
        // A shift of all logits changes nothing but the rounding.
        let shifted = (&p + 3.0).unwrap();
        for pair in paired_predictions(&p, &shifted, &[7; 20]).unwrap() {
            assert!(pair.kl < 1e-6, "{pair:?}");
        }
    }

    #[test]
    fn fused_composed_and_double_precision_agree_and_no_divergence_is_negative() {
        for scale in [1e-3, 0.1, 1.0, 12.0] {
            let p = Tensor::randn(0f32, 6.0, (12, 997), &Device::Cpu).unwrap();
            let noise = Tensor::randn(0f32, 1.0, (12, 997), &Device::Cpu).unwrap();
            let q = (&p + (noise * scale).unwrap()).unwrap();
            let fused = paired_predictions(&p, &q, &[3; 12]).unwrap();
            let composed = composed(&p, &q, &[3; 12]).unwrap();
            let (p, q) = (p.to_vec2::<f32>().unwrap(), q.to_vec2::<f32>().unwrap());
            for row in 0..12 {
                let exact = exact(&p[row], &q[row]);
                for pair in [fused[row], composed[row]] {
                    assert!(pair.kl >= 0.0);
                    let close = 1e-6 + 1e-5 * exact;
                    assert!(
                        (f64::from(pair.kl) - exact).abs() < close,
                        "{pair:?}, {exact}"
                    );
                }
                assert!((fused[row].nll_q - composed[row].nll_q).abs() < 1e-4);
                assert_eq!(fused[row].agrees, composed[row].agrees);
            }
        }
    }

    fn exact(p: &[f32], q: &[f32]) -> f64 {
        let ln = |row: &[f32]| {
            let top = row.iter().copied().fold(f32::MIN, f32::max);
            let shifted: Vec<f64> = row.iter().map(|x| f64::from(*x) - f64::from(top)).collect();
            let sum: f64 = shifted.iter().map(|x| x.exp()).sum();
            shifted.iter().map(|x| x - sum.ln()).collect::<Vec<_>>()
        };
        let (ln_p, ln_q) = (ln(p), ln(q));
        ln_p.iter().zip(ln_q).map(|(p, q)| p.exp() * (p - q)).sum()
    }

    #[test]
    fn sick_logits_are_kept() {
        let (p, q) = (logits(&[&[0.0, f32::NAN]]), logits(&[&[0.0, 1.0]]));
        for pairs in [
            paired_predictions(&p, &q, &[0]),
            paired_predictions(&q, &p, &[0]),
            composed(&q, &p, &[0]),
        ] {
            assert!(pairs.unwrap()[0].kl.is_nan());
        }
    }
}
