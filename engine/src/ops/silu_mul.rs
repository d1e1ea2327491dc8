//! The gate of SwiGLU (arXiv 2002.05202, eq. 6).

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::{contiguous, on_cpu};
use crate::simd::{exp, vectorized};

/// Elements that are worth a task of their own.
const ELEMENTS_PER_TASK: usize = 1 << 14;

/// `y = gate · σ(gate) · up`, elementwise, f32, all of one shape.
pub fn silu_mul(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    if on_cpu(gate) {
        gate.apply_op2_no_bwd(up, &SiluMul)
    } else {
        gate.silu()? * up
    }
}

struct SiluMul;

impl CustomOp2 for SiluMul {
    fn name(&self) -> &'static str {
        "silu-mul"
    }

    fn cpu_fwd(
        &self,
        g: &CpuStorage,
        g_layout: &Layout,
        u: &CpuStorage,
        u_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (gate, up) = (contiguous(g, g_layout)?, contiguous(u, u_layout)?);
        let mut y = vec![0f32; gate.len()];
        y.par_chunks_mut(ELEMENTS_PER_TASK)
            .zip(
                gate.par_chunks(ELEMENTS_PER_TASK)
                    .zip(up.par_chunks(ELEMENTS_PER_TASK)),
            )
            .for_each(|(y, (gate, up))| {
                vectorized(|| {
                    for ((y, &g), &u) in y.iter_mut().zip(gate).zip(up) {
                        // Above -88 eˣ of -g is finite; below, σ(g) is 0 to within f32.
                        let clamped = if g < -87.0 { -87.0 } else { g };
                        *y = g / (1.0 + exp(-clamped)) * u;
                    }
                });
            });
        Ok((CpuStorage::F32(y), g_layout.shape().clone()))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn fused_and_composed_agree() {
        let gate = Tensor::randn(0f32, 20.0, (64, 700), &Device::Cpu).unwrap();
        let up = Tensor::randn(0f32, 1.0, (64, 700), &Device::Cpu).unwrap();
        let fused = silu_mul(&gate, &up)
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1::<f32>()
            .unwrap();
        let composed = (gate.silu().unwrap() * up)
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1::<f32>()
            .unwrap();
        for (a, b) in fused.iter().zip(composed) {
            assert!((a - b).abs() <= 1e-6 * b.abs().max(1e-6), "{a} {b}");
        }
    }

    #[test]
    fn extreme_gates_stay_finite_and_nan_is_kept() {
        let gate = Tensor::new(&[-1e30f32, -200.0, 0.0, 200.0, f32::NAN], &Device::Cpu).unwrap();
        let up = Tensor::ones(5, candle_core::DType::F32, &Device::Cpu).unwrap();
        let y = silu_mul(&gate, &up).unwrap().to_vec1::<f32>().unwrap();
        assert!(
            y[0].abs() < 1e-6
                && y[1].abs() < 1e-30
                && y[2].abs() < f32::MIN_POSITIVE
                && (y[3] - 200.0).abs() < 1e-4
                && y[4].is_nan(),
            "{y:?}"
        );
    }
}
