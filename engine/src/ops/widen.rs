//! Weights of 16 bits in f32, for operations that compute in it.

use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor};
use half::slice::HalfFloatSliceExt as _;
use half::{bf16, f16};
use rayon::prelude::*;

use super::on_cpu;

/// Elements that are worth a task of their own.
const ELEMENTS_PER_TASK: usize = 1 << 16;

/// The same values in f32; of f32, the tensor itself. `x`: contiguous, f32, f16 or bf16.
pub fn widen(x: &Tensor) -> Result<Tensor> {
    if x.dtype() == DType::F32 {
        Ok(x.clone())
    } else if on_cpu(x) {
        x.apply_op1_no_bwd(&Widen)
    } else {
        x.to_dtype(DType::F32)
    }
}

struct Widen;

impl CustomOp1 for Widen {
    fn name(&self) -> &'static str {
        "widen"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let Some((start, end)) = layout.contiguous_offsets() else {
            candle_core::bail!("expected a contiguous tensor, got {layout:?}")
        };
        let wide = match x {
            CpuStorage::BF16(values) => widened_bf16(&values[start..end]),
            CpuStorage::F16(values) => widened_f16(&values[start..end]),
            _ => candle_core::bail!("expected values of 16 bits"),
        };
        Ok((CpuStorage::F32(wide), layout.shape().clone()))
    }
}

/// The values in f32.
pub(crate) fn widened_bf16(values: &[bf16]) -> Vec<f32> {
    in_parallel(values, |x, y| {
        for (x, y) in x.iter().zip(y) {
            *y = x.to_f32();
        }
    })
}

/// The values in f32.
pub(crate) fn widened_f16(values: &[f16]) -> Vec<f32> {
    in_parallel(values, <[f16]>::convert_to_f32_slice)
}

fn in_parallel<T: Sync>(values: &[T], convert: impl Fn(&[T], &mut [f32]) + Sync) -> Vec<f32> {
    let mut wide = vec![0f32; values.len()];
    if values.len() <= ELEMENTS_PER_TASK {
        convert(values, &mut wide);
        return wide;
    }
    wide.par_chunks_mut(ELEMENTS_PER_TASK)
        .zip(values.par_chunks(ELEMENTS_PER_TASK))
        .for_each(|(y, x)| convert(x, y));
    wide
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn wide_values_have_the_bits_of_the_tensor_library() {
        let x = Tensor::randn(0f32, 100.0, (301, 257), &Device::Cpu).unwrap();
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            let narrow = x.to_dtype(dtype).unwrap();
            let values = |x: Tensor| x.to_vec2::<f32>().unwrap();
            let expected = values(narrow.to_dtype(DType::F32).unwrap());
            assert!(values(widen(&narrow).unwrap()) == expected, "{dtype:?}");
        }
    }

    #[test]
    fn other_types_are_refused() {
        let x = Tensor::zeros(3, DType::U32, &Device::Cpu).unwrap();
        assert!(widen(&x).is_err());
    }
}
