//! The values of one tensor in the dtype of its file.

use std::ops::Range;

use candle_core::{DType, Device, Tensor};
use half::slice::HalfFloatSliceExt as _;
use half::{bf16, f16};

use crate::error::Result;
use crate::ops::{widened_bf16, widened_f16};

/// A tensor's values, row-major. Pruning works on these, so kept weights stay bit-identical in their own dtype.
#[derive(Debug, Clone, PartialEq)]
pub enum Weights {
    /// 32-bit.
    F32(Vec<f32>),
    /// IEEE half precision.
    F16(Vec<f16>),
    /// The upper half of an f32.
    Bf16(Vec<bf16>),
}

impl Weights {
    /// `n` zeros of a file's dtype; `None` if it is not a float of 16 or 32 bits.
    pub(crate) fn zeros(dtype: &str, n: usize) -> Option<Self> {
        match dtype {
            "F32" => Some(Self::F32(vec![0.0; n])),
            "F16" => Some(Self::F16(vec![f16::ZERO; n])),
            "BF16" => Some(Self::Bf16(vec![bf16::ZERO; n])),
            _ => None,
        }
    }

    /// The bytes as they stand in the file (on little-endian machines, the only ones supported).
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::F32(values) => bytemuck::cast_slice(values),
            Self::F16(values) => bytemuck::cast_slice(values),
            Self::Bf16(values) => bytemuck::cast_slice(values),
        }
    }

    /// The same bytes, to be read into.
    pub(crate) fn as_bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Self::F32(values) => bytemuck::cast_slice_mut(values),
            Self::F16(values) => bytemuck::cast_slice_mut(values),
            Self::Bf16(values) => bytemuck::cast_slice_mut(values),
        }
    }

    /// Number of zeros, of either sign.
    pub fn count_zeros(&self) -> u64 {
        fn count<T: Copy>(values: &[T], is_zero: impl Fn(T) -> bool) -> u64 {
            values.iter().filter(|&&value| is_zero(value)).count() as u64
        }
        match self {
            Self::F32(values) => count(values, |v| v == 0.0),
            Self::F16(values) => count(values, |v| v.to_bits() << 1 == 0),
            Self::Bf16(values) => count(values, |v| v.to_bits() << 1 == 0),
        }
    }

    /// The values in f32.
    pub fn into_f32(self) -> Vec<f32> {
        match self {
            Self::F32(values) => values,
            Self::F16(values) => widened_f16(&values),
            Self::Bf16(values) => widened_bf16(&values),
        }
    }

    /// Some of the values in f32.
    pub(crate) fn to_f32(&self, range: Range<usize>) -> Vec<f32> {
        match self {
            Self::F32(values) => values[range].to_vec(),
            Self::F16(values) => values[range].to_f32_vec(),
            Self::Bf16(values) => values[range].iter().map(|v| v.to_f32()).collect(),
        }
    }

    /// What this dtype makes of an f32.
    pub(crate) fn rounding(&self) -> fn(f32) -> f32 {
        match self {
            Self::F32(_) => |value| value,
            Self::F16(_) => |value| f16::from_f32(value).to_f32(),
            Self::Bf16(_) => |value| bf16::from_f32(value).to_f32(),
        }
    }

    /// Takes f32 values over, rounded to this dtype.
    pub(crate) fn assign(&mut self, wide: &[f32]) {
        match self {
            Self::F32(values) => values.copy_from_slice(wide),
            Self::F16(values) => values.convert_from_f32_slice(wide),
            Self::Bf16(values) => values.convert_from_f32_slice(wide),
        }
    }

    /// A tensor in the file's own dtype.
    pub(crate) fn into_own_tensor(self, shape: &[usize], device: &Device) -> Result<Tensor> {
        Ok(match self {
            Self::F32(values) => Tensor::from_vec(values, shape, device)?,
            Self::F16(values) => Tensor::from_vec(values, shape, device)?,
            Self::Bf16(values) => Tensor::from_vec(values, shape, device)?,
        })
    }

    /// A copy of a tensor's values.
    pub(crate) fn of_tensor(tensor: &Tensor) -> Result<Self> {
        let values = tensor.flatten_all()?;
        Ok(match values.dtype() {
            DType::F16 => Self::F16(values.to_vec1()?),
            DType::BF16 => Self::Bf16(values.to_vec1()?),
            _ => Self::F32(values.to_vec1()?),
        })
    }

    /// An f32 tensor of these values.
    pub(crate) fn into_tensor(self, shape: &[usize], device: &Device) -> Result<Tensor> {
        Ok(Tensor::from_vec(self.into_f32(), shape, device)?)
    }
}
