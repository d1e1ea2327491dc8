//! Which experts read which tokens, and the sum of what they make.

use candle_core::{Device, Result, Storage, Tensor};

use super::{contiguous, on_cpu};
use crate::simd::vectorized;

/// The tokens that one expert reads.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RoutedTokens {
    /// Rows of the batch, ascending.
    pub rows: Vec<u32>,
    /// What the expert's output is multiplied with, by row.
    pub gates: Vec<f32>,
}

/// The tokens of each expert: with `p = softmax(logits)` over all experts, a token is read by the `top_k` with the largest
/// `p`, of equal ones the first.
///
/// - `logits`: `[n_tokens, n_experts]`, f32
/// - gates: `p`, or `p / Σ p` over the experts that read the token
pub fn route(logits: &Tensor, top_k: usize, renormalises: bool) -> Result<Vec<RoutedTokens>> {
    let (_, n_experts) = logits.dims2()?;
    let mut experts = vec![RoutedTokens::default(); n_experts];
    for (row, mut p) in (0u32..).zip(logits.to_vec2::<f32>()?) {
        softmax(&mut p);
        let mut order: Vec<usize> = (0..n_experts).collect();
        order.sort_by(|&a, &b| p[b].total_cmp(&p[a]));
        let chosen = &order[..top_k.min(n_experts)];
        let divisor = if renormalises {
            chosen.iter().map(|&expert| p[expert]).sum()
        } else {
            1.0
        };
        for &expert in chosen {
            experts[expert].rows.push(row);
            experts[expert].gates.push(p[expert] / divisor);
        }
    }
    Ok(experts)
}

fn softmax(values: &mut [f32]) {
    let largest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    for x in values.iter_mut() {
        *x = (*x - largest).exp();
    }
    let sum: f32 = values.iter().sum();
    for x in values {
        *x /= sum;
    }
}

/// `Σ_e g_te · y_e[t]` of each token `t`, over the experts that read it, in the order in which they are added.
#[derive(Debug)]
pub struct RowSum {
    sum: Sum,
    n_tokens: usize,
    width: usize,
}

#[derive(Debug)]
enum Sum {
    Cpu(Vec<f32>),
    Other(Tensor),
}

impl RowSum {
    /// Of rows as many and as wide as those of `x`; nothing is added yet.
    pub fn like(x: &Tensor) -> Result<Self> {
        let (n_tokens, width) = x.dims2()?;
        let sum = if on_cpu(x) {
            Sum::Cpu(vec![0.0; n_tokens * width])
        } else {
            Sum::Other(x.zeros_like()?)
        };
        Ok(Self {
            sum,
            n_tokens,
            width,
        })
    }

    /// Adds an expert's output `y`, `[n, width]`, for the `n` tokens that it read.
    pub fn add(&mut self, y: &Tensor, tokens: &RoutedTokens) -> Result<()> {
        let (n, width) = y.dims2()?;
        if n != tokens.rows.len() || n != tokens.gates.len() || width != self.width {
            candle_core::bail!(
                "{n} rows of {width}, not {} of {}",
                tokens.rows.len(),
                self.width
            );
        }
        match &mut self.sum {
            Sum::Cpu(sum) => {
                let (storage, layout) = y.storage_and_layout();
                let Storage::Cpu(storage) = &*storage else {
                    candle_core::bail!("a CPU tensor without CPU storage")
                };
                add_rows(sum, contiguous(storage, layout)?, width, tokens);
            }
            Sum::Other(sum) => {
                let rows = Tensor::new(tokens.rows.as_slice(), y.device())?;
                let gates = Tensor::new(tokens.gates.as_slice(), y.device())?;
                let weighted = y.broadcast_mul(&gates.reshape((n, 1))?)?;
                *sum = sum.index_add(&rows, &weighted, 0)?;
            }
        }
        Ok(())
    }

    /// The sum, `[n_tokens, width]`; 0 for a token that no expert read.
    pub fn finish(self) -> Result<Tensor> {
        match self.sum {
            Sum::Cpu(sum) => Tensor::from_vec(sum, (self.n_tokens, self.width), &Device::Cpu),
            Sum::Other(sum) => Ok(sum),
        }
    }
}

fn add_rows(sum: &mut [f32], y: &[f32], width: usize, tokens: &RoutedTokens) {
    let places = tokens.rows.iter().zip(&tokens.gates);
    for (y, (&row, &gate)) in y.chunks_exact(width).zip(places) {
        let sum = &mut sum[row as usize * width..][..width];
        vectorized(|| {
            let pairs = sum.iter_mut().zip(y);
            pairs.for_each(|(sum, y)| *sum += gate * y);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Softmax of the logits `ln p` is `p`.
    fn logits(p: &[[f32; 4]]) -> Tensor {
        let values = p.as_flattened().iter().map(|p| p.ln()).collect();
        Tensor::from_vec(values, (p.len(), 4), &Device::Cpu).unwrap()
    }

    fn gates(experts: &[RoutedTokens], expert: usize) -> Vec<f32> {
        let gates = experts[expert].gates.iter();
        gates.map(|gate| (gate * 1e5).round() / 1e5).collect()
    }

    #[test]
    fn hand_computed() {
        let logits = logits(&[[0.1, 0.5, 0.1, 0.3], [0.6, 0.1, 0.2, 0.1]]);
        let raw = route(&logits, 2, false).unwrap();
        let rows: Vec<_> = raw.iter().map(|expert| expert.rows.clone()).collect();
        assert_eq!(rows, [vec![1], vec![0], vec![1], vec![0]]);
        assert_eq!((gates(&raw, 1), gates(&raw, 2)), (vec![0.5], vec![0.2]));
        let renormalised = route(&logits, 2, true).unwrap();
        assert_eq!(gates(&renormalised, 1), [0.625]);
        assert_eq!(gates(&renormalised, 2), [0.25]);
    }

    #[test]
    fn of_equal_experts_the_first_ones_read_a_token() {
        let experts = route(&logits(&[[0.1, 0.3, 0.3, 0.3]]), 2, false).unwrap();
        let reads: Vec<_> = experts.iter().map(|expert| expert.rows.len()).collect();
        assert_eq!(reads, [0, 1, 1, 0]);
    }

    #[test]
    fn outputs_are_added_to_the_rows_of_their_tokens() {
        let x = Tensor::zeros((3, 2), candle_core::DType::F32, &Device::Cpu).unwrap();
        let mut sum = RowSum::like(&x).unwrap();
        let y = Tensor::new(&[[1f32, 2.0], [3.0, 4.0]], &Device::Cpu).unwrap();
        let tokens = RoutedTokens {
            rows: vec![0, 2],
            gates: vec![0.5, 2.0],
        };
        sum.add(&y, &tokens).unwrap();
        sum.add(&y, &tokens).unwrap();
        assert!(sum.add(&x, &tokens).is_err());
        let rows = sum.finish().unwrap().to_vec2::<f32>().unwrap();
        assert_eq!(rows, [[1.0, 2.0], [0.0, 0.0], [12.0, 16.0]]);
    }

    #[test]
    fn fused_and_composed_agree() {
        let random = |n| Tensor::randn(0f32, 1.0, (n, 33), &Device::Cpu).unwrap();
        let x = random(20);
        let mut fused = RowSum::like(&x).unwrap();
        let mut composed = RowSum {
            sum: Sum::Other(x.zeros_like().unwrap()),
            n_tokens: 20,
            width: 33,
        };
        let logits = Tensor::randn(0f32, 1.0, (20, 5), &Device::Cpu).unwrap();
        for tokens in route(&logits, 3, true).unwrap() {
            let y = random(tokens.rows.len());
            fused.add(&y, &tokens).unwrap();
            composed.add(&y, &tokens).unwrap();
        }
        let values = |sum: RowSum| sum.finish().unwrap().to_vec2::<f32>().unwrap();
        let (fused, composed) = (values(fused), values(composed));
        for (a, b) in fused.iter().flatten().zip(composed.iter().flatten()) {
            assert!((a - b).abs() < 1e-5, "{a} {b}");
        }
    }
}
