//! The soft cap of logits (arXiv 2408.00118, section 2).

use candle_core::{CpuStorage, InplaceOp1, Layout, Result, Tensor};
use rayon::prelude::*;

use super::{ELEMENTS_PER_TASK, on_cpu};
use crate::simd::{tanh, vectorized};

/// `cap · tanh(x / cap)`, elementwise, f32; on the CPU in the place of `x`.
pub fn soft_cap(x: Tensor, cap: f32) -> Result<Tensor> {
    if on_cpu(&x) {
        x.inplace_op1(&SoftCap { cap })?;
        Ok(x)
    } else {
        composed(&x, cap)
    }
}

fn composed(x: &Tensor, cap: f32) -> Result<Tensor> {
    (x / f64::from(cap))?.tanh()? * f64::from(cap)
}

/// The same of a few values, on the calling thread.
#[inline(always)]
pub(in crate::ops) fn soft_cap_values(values: &mut [f32], cap: f32) {
    for value in values {
        *value = cap * tanh(*value / cap);
    }
}

struct SoftCap {
    cap: f32,
}

impl InplaceOp1 for SoftCap {
    fn name(&self) -> &'static str {
        "soft-cap"
    }

    fn cpu_fwd(&self, x: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let (CpuStorage::F32(x), Some((start, end))) = (x, layout.contiguous_offsets()) else {
            candle_core::bail!("expected a contiguous tensor of f32, got {layout:?}")
        };
        x[start..end]
            .par_chunks_mut(ELEMENTS_PER_TASK)
            .for_each(|x| vectorized(|| soft_cap_values(x, self.cap)));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn hand_computed() {
        let x = Tensor::new(&[0f32, 30.0, -3000.0], &Device::Cpu).unwrap();
        let y = soft_cap(x, 30.0).unwrap().to_vec1::<f32>().unwrap();
        // 30 tanh(1)
        assert!(y[0].abs() < 1e-9 && (y[1] - 22.847_824).abs() < 1e-4);
        assert!((y[2] + 30.0).abs() < 1e-5);
    }

    #[test]
    fn fused_and_composed_agree() {
        let x = Tensor::randn(0f32, 20.0, (64, 700), &Device::Cpu).unwrap();
        let expected = composed(&x, 30.0).unwrap();
        let difference = (soft_cap(x, 30.0).unwrap() - expected).unwrap();
        let worst = difference.abs().unwrap().max_all().unwrap();
        assert!(worst.to_scalar::<f32>().unwrap() < 1e-5);
    }
}
