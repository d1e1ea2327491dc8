//! Two tensor operations with their derivatives. candle's own fused ones have none, and composing them from small
//! steps costs more time than the matrix products.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

/// The elements of a contiguous f32 tensor.
fn contiguous<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let Some((start, end)) = layout.contiguous_offsets() else {
        bail!(
            "expected a contiguous tensor, got strides {:?}",
            layout.stride()
        )
    };
    Ok(&storage.as_slice::<f32>()?[start..end])
}

/// `y = softmax(scale * x)` over the last axis, where a query sees only keys up to its own position.
///
/// `x` is `[.., n_groups * seq_len, seq_len]`: row `r` is the query at position `r % seq_len`.
struct CausalSoftmax {
    scale: f32,
}

impl CustomOp1 for CausalSoftmax {
    fn name(&self) -> &'static str {
        "causal-softmax"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let scores = contiguous(storage, layout)?;
        let seq_len = layout.shape().dims()[layout.shape().rank() - 1];
        let mut weights = vec![0_f32; scores.len()];
        for (row, (out, scores)) in weights
            .chunks_exact_mut(seq_len)
            .zip(scores.chunks_exact(seq_len))
            .enumerate()
        {
            let n_visible = row % seq_len + 1;
            let (out, scores) = (&mut out[..n_visible], &scores[..n_visible]);
            let max = scores
                .iter()
                .fold(f32::NEG_INFINITY, |max, &score| max.max(score));
            let mut sum = 0.0;
            for (out, &score) in out.iter_mut().zip(scores) {
                *out = ((score - max) * self.scale).exp();
                sum += *out;
            }
            for weight in out {
                *weight /= sum;
            }
        }
        Ok((CpuStorage::F32(weights), layout.shape().clone()))
    }

    /// `dx = scale * y * (dy - sum(dy * y))`
    fn bwd(&self, _scores: &Tensor, weights: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let weighted = (weights * grad)?;
        let mean = weighted.sum_keepdim(candle_core::D::Minus1)?;
        let grad = (weighted - weights.broadcast_mul(&mean)?)?;
        Ok(Some((grad * f64::from(self.scale))?))
    }
}

/// The attention weights of `scores`, see [`CausalSoftmax`].
pub(crate) fn causal_softmax(scores: &Tensor, scale: f32) -> Result<Tensor> {
    scores.contiguous()?.apply_op1(CausalSoftmax { scale })
}

/// Rotary position embedding: turns the pair `(x[i], x[i + d/2])` of every head by `position * theta^(-2i/d)`, which is
/// the pairing of Hugging Face's checkpoints. The derivative is the turn backwards.
///
/// Applies to tensors `[.., seq_len, head_dim]`.
#[derive(Clone, Debug)]
pub(crate) struct Rotary {
    /// `(cos, sin)` of each angle, `[max_positions, head_dim / 2]`.
    turns: Arc<Vec<(f32, f32)>>,
    backwards: bool,
}

impl Rotary {
    pub(crate) fn new(head_dim: usize, max_positions: usize, theta: f64) -> Self {
        let half = head_dim / 2;
        let angle = |position: usize, pair: usize| {
            position as f64 * theta.powf(-((2 * pair) as f64) / head_dim as f64)
        };
        let turns = (0..max_positions)
            .flat_map(|position| (0..half).map(move |pair| (position, pair)))
            .map(|(position, pair)| {
                let (sin, cos) = angle(position, pair).sin_cos();
                (narrow(cos), narrow(sin))
            })
            .collect();
        Self {
            turns: Arc::new(turns),
            backwards: false,
        }
    }

    pub(crate) fn apply(&self, heads: &Tensor) -> Result<Tensor> {
        heads.contiguous()?.apply_op1(self.clone())
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "rounding to f32 is the point"
)]
fn narrow(value: f64) -> f32 {
    value as f32
}

impl CustomOp1 for Rotary {
    fn name(&self) -> &'static str {
        "rotary"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let values = contiguous(storage, layout)?;
        let dims = layout.shape().dims();
        let (seq_len, head_dim) = (dims[dims.len() - 2], dims[dims.len() - 1]);
        let half = head_dim / 2;
        let direction = if self.backwards { -1.0 } else { 1.0 };
        let mut turned = vec![0_f32; values.len()];
        for (row, (out, values)) in turned
            .chunks_exact_mut(head_dim)
            .zip(values.chunks_exact(head_dim))
            .enumerate()
        {
            let position = row % seq_len;
            let turns = &self.turns[position * half..][..half];
            let ((out_low, out_high), (low, high)) =
                (out.split_at_mut(half), values.split_at(half));
            for (pair, &(cos, sin)) in turns.iter().enumerate() {
                let sin = sin * direction;
                out_low[pair] = low[pair] * cos - high[pair] * sin;
                out_high[pair] = high[pair] * cos + low[pair] * sin;
            }
        }
        Ok((CpuStorage::F32(turned), layout.shape().clone()))
    }

    fn bwd(&self, _arg: &Tensor, _res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let back = Self {
            turns: Arc::clone(&self.turns),
            backwards: !self.backwards,
        };
        Ok(Some(grad.contiguous()?.apply_op1_no_bwd(&back)?))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    /// Checks the derivative of `sum(weights * op(x))` against differences of the op itself.
    fn assert_derivative(op: impl Fn(&Tensor) -> Result<Tensor>, dims: (usize, usize, usize)) {
        let n = dims.0 * dims.1 * dims.2;
        let values: Vec<f32> = (0..n).map(|index| (index as f32 * 1.7).sin()).collect();
        let factors: Vec<f32> = (0..n).map(|index| (index as f32 * 0.9).cos()).collect();
        let factors = Tensor::from_vec(factors, dims, &Device::Cpu).unwrap();
        let total = |x: &Tensor| (op(x).unwrap() * &factors).unwrap().sum_all().unwrap();
        let x = Var::from_tensor(&Tensor::from_vec(values.clone(), dims, &Device::Cpu).unwrap())
            .unwrap();
        let grads = total(&x).backward().unwrap();
        let derivative: Vec<f32> = grads
            .get(&x)
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1()
            .unwrap();
        let step = 1e-2;
        for index in 0..n {
            let moved = |by: f32| {
                let mut moved = values.clone();
                moved[index] += by;
                total(&Tensor::from_vec(moved, dims, &Device::Cpu).unwrap())
                    .to_scalar::<f32>()
                    .unwrap()
            };
            let difference = (moved(step) - moved(-step)) / (2.0 * step);
            let error = (derivative[index] - difference).abs();
            assert!(
                error < 1e-3,
                "element {index}: {} against {difference}",
                derivative[index]
            );
        }
    }

    #[test]
    fn the_causal_softmax_has_its_derivative() {
        assert_derivative(|x| causal_softmax(x, 0.5), (2, 6, 3));
    }

    #[test]
    fn the_rotation_has_its_derivative() {
        let rotary = Rotary::new(4, 5, 100.0);
        assert_derivative(|x| rotary.apply(x), (2, 5, 4));
    }

    #[test]
    fn a_query_sees_no_later_key() {
        let scores = Tensor::zeros((1, 4, 2), candle_core::DType::F32, &Device::Cpu).unwrap();
        let weights: Vec<Vec<f32>> = causal_softmax(&scores, 1.0)
            .unwrap()
            .get(0)
            .unwrap()
            .to_vec2()
            .unwrap();
        assert_eq!(weights, [[1.0, 0.0], [0.5, 0.5], [1.0, 0.0], [0.5, 0.5]]);
    }
}
