//! −log p(token): the loss of next-token prediction.

use candle_core::{D, DType, Result, Storage, Tensor};
use rayon::prelude::*;

use super::softmax_row::SoftmaxRow;
use crate::ops::{contiguous, on_cpu};

/// `nll[t] = ln Σ_v exp(logits[t][v]) − logits[t][targets[t]]`, in nats.
///
/// - `logits`: `[n, vocab]`, f32
/// - `targets`: `n` token ids below `vocab`
pub fn negative_log_likelihoods(logits: &Tensor, targets: &[u32]) -> Result<Vec<f32>> {
    let (rows, vocab) = logits.dims2()?;
    if rows != targets.len() {
        candle_core::bail!("{rows} rows of logits, {} targets", targets.len());
    }
    if !on_cpu(logits) {
        return composed(logits, targets);
    }
    let (storage, layout) = logits.storage_and_layout();
    let Storage::Cpu(storage) = &*storage else {
        candle_core::bail!("a CPU tensor without CPU storage")
    };
    let values = contiguous(storage, layout)?;
    let nlls = values
        .par_chunks_exact(vocab)
        .zip(targets)
        .map(|(row, &target)| negative_log_likelihood(row, &SoftmaxRow::of(row), target));
    Ok(nlls.collect())
}

/// Of one row.
pub(super) fn negative_log_likelihood(row: &[f32], softmax: &SoftmaxRow, target: u32) -> f32 {
    softmax.sum.ln() + (softmax.top - row[target as usize])
}

fn composed(logits: &Tensor, targets: &[u32]) -> Result<Vec<f32>> {
    let index = Tensor::new(targets, logits.device())?.unsqueeze(1)?;
    let log_sum_exp = logits.to_dtype(DType::F32)?.log_sum_exp(D::Minus1)?;
    (log_sum_exp - logits.gather(&index, 1)?.squeeze(1)?)?.to_vec1()
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn equal_logits_cost_the_logarithm_of_their_number() {
        let logits = Tensor::zeros((2, 8), DType::F32, &Device::Cpu).unwrap();
        for nll in negative_log_likelihoods(&logits, &[0, 7]).unwrap() {
            assert!((nll - 8f32.ln()).abs() < 1e-6);
        }
    }

    #[test]
    fn fused_and_composed_agree_and_nan_is_kept() {
        let logits = Tensor::randn(0f32, 10.0, (9, 1001), &Device::Cpu).unwrap();
        let targets: Vec<u32> = (0..9).map(|i| i * 111).collect();
        let fused = negative_log_likelihoods(&logits, &targets).unwrap();
        for (a, b) in fused.iter().zip(composed(&logits, &targets).unwrap()) {
            assert!((a - b).abs() < 1e-4, "{a} {b}");
        }
        let nan = Tensor::new(&[[0f32, f32::NAN]], &Device::Cpu).unwrap();
        assert!(negative_log_likelihoods(&nan, &[0]).unwrap()[0].is_nan());
    }
}
