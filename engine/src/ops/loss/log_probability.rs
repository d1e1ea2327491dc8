//! ln p(token) of some tokens at each position, and whether greedy decoding would choose them.

use candle_core::{D, DType, Result, Storage, Tensor};
use rayon::prelude::*;

use super::softmax_row::SoftmaxRow;
use crate::ops::{contiguous, on_cpu};

/// A token that is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// Row of the logits.
    pub row: usize,
    /// Token id.
    pub token: u32,
}

/// What the logits say of a token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenScore {
    /// `logits[row][token] − ln Σ_v exp(logits[row][v])`, in nats; NaN if a logit of the row is not finite.
    pub log_probability: f64,
    /// Whether no other token has a larger logit; of equal ones the first counts.
    pub is_greedy: bool,
}

/// Scores `targets`, in their order. Targets of one row that follow each other share the work on it.
///
/// - `logits`: `[n, vocab]`, f32
/// - `targets`: rows below `n`, token ids below `vocab`
pub fn log_probabilities(logits: &Tensor, targets: &[Target]) -> Result<Vec<TokenScore>> {
    let (rows, vocab) = logits.dims2()?;
    if let Some(target) = targets
        .iter()
        .find(|target| target.row >= rows || target.token as usize >= vocab)
    {
        candle_core::bail!("{target:?} in {rows} rows of {vocab} logits");
    }
    if !on_cpu(logits) {
        return composed(logits, targets);
    }
    let (storage, layout) = logits.storage_and_layout();
    let Storage::Cpu(storage) = &*storage else {
        candle_core::bail!("a CPU tensor without CPU storage")
    };
    let values = contiguous(storage, layout)?;
    let by_row: Vec<&[Target]> = targets.chunk_by(|a, b| a.row == b.row).collect();
    let scores = by_row.into_par_iter().flat_map_iter(|targets| {
        let row = &values[targets[0].row * vocab..][..vocab];
        let softmax = SoftmaxRow::of(row);
        targets.iter().map(move |target| {
            let token = target.token as usize;
            TokenScore {
                log_probability: softmax.log_probability(row[token]),
                is_greedy: softmax.is_first_largest(row, token),
            }
        })
    });
    Ok(scores.collect())
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "logits have far fewer than 2³² rows"
)]
fn composed(logits: &Tensor, targets: &[Target]) -> Result<Vec<TokenScore>> {
    if targets.is_empty() {
        return Ok(Vec::new());
    }
    let device = logits.device();
    let rows = targets.iter().map(|target| target.row as u32);
    let rows = Tensor::from_iter(rows, device)?;
    let tokens = Tensor::from_iter(targets.iter().map(|target| target.token), device)?;
    let logits = logits.to_dtype(DType::F32)?;
    let not_finite = (&logits * 0.0)?.sum(D::Minus1)?;
    let log_sum_exp = (logits.log_sum_exp(D::Minus1)? + not_finite)?.index_select(&rows, 0)?;
    let first_largest = crate::ops::argmax::composed(&logits)?.index_select(&rows, 0)?;
    let of_targets = logits
        .index_select(&rows, 0)?
        .gather(&tokens.unsqueeze(1)?, 1)?
        .squeeze(1)?;
    let log_probabilities = (of_targets - log_sum_exp)?.to_vec1::<f32>()?;
    let is_greedy = first_largest.eq(&tokens)?.to_vec1::<u8>()?;
    let scores = log_probabilities.into_iter().zip(is_greedy);
    Ok(scores
        .map(|(log_probability, is_greedy)| TokenScore {
            log_probability: f64::from(log_probability),
            is_greedy: is_greedy == 1,
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn targets(pairs: &[(usize, u32)]) -> Vec<Target> {
        let target = |&(row, token)| Target { row, token };
        pairs.iter().map(target).collect()
    }

    #[test]
    fn hand_computed_probabilities() {
        // p = (1/4, 3/4) and (1/2, 1/2); of equal logits the first is greedy.
        let logits = [[0f32, 3f32.ln()], [7.0, 7.0]];
        let logits = Tensor::new(&logits, &Device::Cpu).unwrap();
        let targets = targets(&[(0, 0), (0, 1), (1, 0), (1, 1)]);
        let scores = log_probabilities(&logits, &targets).unwrap();
        for (score, (p, is_greedy)) in
            scores
                .iter()
                .zip([(0.25, false), (0.75, true), (0.5, true), (0.5, false)])
        {
            assert!((score.log_probability - f64::ln(p)).abs() < 1e-6);
            assert_eq!(score.is_greedy, is_greedy);
        }
    }

    #[test]
    fn fused_and_composed_agree() {
        let logits = Tensor::randn(0f32, 10.0, (9, 1001), &Device::Cpu).unwrap();
        let greedy = logits.argmax(1).unwrap().to_vec1::<u32>().unwrap();
        let pairs: Vec<(usize, u32)> = (0..9)
            .zip(990..)
            .flat_map(|(row, other)| [(row, other), (row, greedy[row])])
            .collect();
        let targets = targets(&pairs);
        let fused = log_probabilities(&logits, &targets).unwrap();
        let composed = composed(&logits, &targets).unwrap();
        for (at, (a, b)) in fused.iter().zip(composed).enumerate() {
            assert!((a.log_probability - b.log_probability).abs() < 1e-4);
            assert_eq!((a.is_greedy, b.is_greedy), (at % 2 == 1, at % 2 == 1));
        }
    }

    #[test]
    fn a_row_with_a_sick_logit_has_no_probabilities() {
        for sick in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let logits = Tensor::new(&[[0f32, sick, 1.0], [0.0, 1.0, 2.0]], &Device::Cpu).unwrap();
            let targets = targets(&[(0, 2), (1, 2)]);
            for scores in [
                log_probabilities(&logits, &targets).unwrap(),
                composed(&logits, &targets).unwrap(),
            ] {
                assert!(scores[0].log_probability.is_nan(), "{sick}");
                assert!(scores[1].log_probability.is_finite(), "{sick}");
            }
        }
    }

    #[test]
    fn a_target_outside_the_logits_is_refused() {
        let logits = Tensor::zeros((2, 3), DType::F32, &Device::Cpu).unwrap();
        assert!(log_probabilities(&logits, &targets(&[(2, 0)])).is_err());
        assert!(log_probabilities(&logits, &targets(&[(0, 3)])).is_err());
    }
}
