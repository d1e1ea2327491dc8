//! Root-mean-square normalisation (arXiv 1910.07467, eq. 4).

use candle_core::{CpuStorage, CustomOp2, D, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use crate::ops::{ROWS_PER_TASK, contiguous, on_cpu};
use crate::simd::{sum_by, vectorized};

/// `y[t][j] = x[t][j] / sqrt(mean_j(x[t][j]²) + eps) · weight[j]`
///
/// - `x`: `[n_tokens, n · width]`, f32; each `width` consecutive values are normed by themselves, such as a head's
/// - `weight`: `[width]`, f32
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f32) -> Result<Tensor> {
    if on_cpu(x) {
        x.apply_op2_no_bwd(weight, &RmsNorm { eps })
    } else {
        composed(x, weight, eps)
    }
}

fn composed(x: &Tensor, weight: &Tensor, eps: f32) -> Result<Tensor> {
    let runs = x.reshape(((), weight.dim(0)?))?;
    let mean_square = runs.sqr()?.mean_keepdim(D::Minus1)?;
    runs.broadcast_div(&(mean_square + f64::from(eps))?.sqrt()?)?
        .broadcast_mul(weight)?
        .reshape(x.shape())
}

struct RmsNorm {
    eps: f32,
}

impl CustomOp2 for RmsNorm {
    fn name(&self) -> &'static str {
        "rms-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        w: &CpuStorage,
        w_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, weight) = (contiguous(x, x_layout)?, contiguous(w, w_layout)?);
        let width = weight.len();
        if !x.len().is_multiple_of(width) {
            candle_core::bail!("a norm of {width} features on {x_layout:?}");
        }
        let mut y = vec![0f32; x.len()];
        y.par_chunks_mut(width * ROWS_PER_TASK)
            .zip(x.par_chunks(width * ROWS_PER_TASK))
            .for_each(|(y, x)| {
                vectorized(|| {
                    for (y, x) in y.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
                        let scale = 1.0 / (sum_by(x, |x| x * x) / width as f32 + self.eps).sqrt();
                        for ((y, x), w) in y.iter_mut().zip(x).zip(weight) {
                            *y = x * scale * w;
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
        // mean(9, 16) = 12.5
        let x = Tensor::new(&[[3f32, 4.0]], &Device::Cpu).unwrap();
        let w = Tensor::new(&[1f32, 2.0], &Device::Cpu).unwrap();
        let y = rms_norm(&x, &w, 0.0).unwrap().to_vec2::<f32>().unwrap();
        assert!(
            (y[0][0] - 3.0 / 12.5f32.sqrt()).abs() < 1e-6
                && (y[0][1] - 8.0 / 12.5f32.sqrt()).abs() < 1e-6
        );
    }

    #[test]
    fn each_head_is_normed_by_itself() {
        let x = Tensor::new(&[[3f32, 4.0, 6.0, 8.0]], &Device::Cpu).unwrap();
        let w = Tensor::new(&[1f32, 2.0], &Device::Cpu).unwrap();
        let y = rms_norm(&x, &w, 0.0).unwrap().to_vec2::<f32>().unwrap();
        // Both heads have the same direction.
        assert!((y[0][0] - y[0][2]).abs() < 1e-6 && (y[0][1] - y[0][3]).abs() < 1e-6);
        assert!((y[0][0] - 3.0 / 12.5f32.sqrt()).abs() < 1e-6);
        assert!(
            rms_norm(
                &x,
                &Tensor::ones(3, candle_core::DType::F32, &Device::Cpu).unwrap(),
                0.0
            )
            .is_err()
        );
    }

    #[test]
    fn fused_and_composed_agree() {
        let x = Tensor::randn(0f32, 3.0, (37, 153), &Device::Cpu).unwrap();
        let w = Tensor::randn(1f32, 0.3, 51, &Device::Cpu).unwrap();
        let difference =
            (rms_norm(&x, &w, 1e-5).unwrap() - composed(&x, &w, 1e-5).unwrap()).unwrap();
        assert!(
            difference
                .abs()
                .unwrap()
                .max_all()
                .unwrap()
                .to_scalar::<f32>()
                .unwrap()
                < 1e-5
        );
    }
}
