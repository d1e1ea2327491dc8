//! Layer normalisation (arXiv 1607.06450).

use candle_core::{CpuStorage, CustomOp3, D, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use crate::ops::{ROWS_PER_TASK, contiguous, on_cpu};
use crate::simd::{sum_by, vectorized};

/// `y[t][j] = (x[t][j] − mean_j(x[t])) / sqrt(variance_j(x[t]) + eps) · weight[j] + bias[j]`
///
/// - `x`: `[n_tokens, width]`, f32
/// - `weight`, `bias`: `[width]`, f32
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f32) -> Result<Tensor> {
    if on_cpu(x) {
        x.apply_op3_no_bwd(weight, bias, &LayerNorm { eps })
    } else {
        composed(x, weight, bias, eps)
    }
}

fn composed(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f32) -> Result<Tensor> {
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    centred
        .broadcast_div(&(variance + f64::from(eps))?.sqrt()?)?
        .broadcast_mul(weight)?
        .broadcast_add(bias)
}

struct LayerNorm {
    eps: f32,
}

impl CustomOp3 for LayerNorm {
    fn name(&self) -> &'static str {
        "layer-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        w: &CpuStorage,
        w_layout: &Layout,
        b: &CpuStorage,
        b_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, weight) = (contiguous(x, x_layout)?, contiguous(w, w_layout)?);
        let (bias, width) = (contiguous(b, b_layout)?, weight.len());
        if bias.len() != width || !x.len().is_multiple_of(width) {
            candle_core::bail!("a norm of {width} features on {x_layout:?}");
        }
        let mut y = vec![0f32; x.len()];
        y.par_chunks_mut(width * ROWS_PER_TASK)
            .zip(x.par_chunks(width * ROWS_PER_TASK))
            .for_each(|(y, x)| {
                vectorized(|| {
                    for (y, x) in y.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
                        let mean = sum_by(x, |x| x) / width as f32;
                        let variance = sum_by(x, |x| (x - mean) * (x - mean)) / width as f32;
                        let scale = 1.0 / (variance + self.eps).sqrt();
                        for (((y, x), w), b) in y.iter_mut().zip(x).zip(weight).zip(bias) {
                            *y = (x - mean) * scale * w + b;
                        }
                    }
                });
            });
        Ok((CpuStorage::F32(y), x_layout.shape().clone()))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn hand_computed_row() {
        // Mean 3, variance mean(4, 0, 4) = 8/3.
        let x = Tensor::new(&[[1f32, 3.0, 5.0]], &Device::Cpu).unwrap();
        let w = Tensor::new(&[1f32, 1.0, 2.0], &Device::Cpu).unwrap();
        let b = Tensor::new(&[0f32, 7.0, 1.0], &Device::Cpu).unwrap();
        let y = layer_norm(&x, &w, &b, 0.0).unwrap();
        let y = y.to_vec2::<f32>().unwrap();
        let unit = 2.0 / (8.0f32 / 3.0).sqrt();
        for (y, expected) in y[0].iter().zip([-unit, 7.0, 2.0 * unit + 1.0]) {
            assert!((y - expected).abs() < 1e-6, "{y}, expected {expected}");
        }
        assert!(layer_norm(&x, &w, &b.narrow(0, 0, 2).unwrap(), 0.0).is_err());
    }

    #[test]
    fn fused_and_composed_agree() {
        let x = (Tensor::randn(0f32, 3.0, (37, 51), &Device::Cpu).unwrap() + 2.0).unwrap();
        let w = Tensor::randn(1f32, 0.3, 51, &Device::Cpu).unwrap();
        let b = Tensor::randn(0f32, 1.0, 51, &Device::Cpu).unwrap();
        let fused = layer_norm(&x, &w, &b, 1e-5).unwrap();
        let difference = (fused - composed(&x, &w, &b, 1e-5).unwrap()).unwrap();
        let worst = difference.abs().unwrap().max_all().unwrap();
        assert!(worst.to_scalar::<f32>().unwrap() < 1e-5);
    }
}
