//! The linears of a resident block.

use candle_core::{Device, Tensor};

use crate::checkpoint::Checkpoint;
use crate::error::Result;
use crate::model::plan::LinearSpec;
use crate::ops::{add, linear};

/// `y = x · weightᵀ + bias`.
#[derive(Debug, Clone)]
pub(super) struct Linear {
    pub(super) weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    pub(super) fn load(
        checkpoint: &Checkpoint,
        spec: &LinearSpec,
        device: &Device,
    ) -> Result<Self> {
        let weight = checkpoint.read(&spec.weight())?;
        let bias = if spec.has_bias {
            let bias = checkpoint.read(&spec.bias())?;
            Some(bias.into_tensor(&[spec.d_out], device)?)
        } else {
            None
        };
        Ok(Self {
            weight: weight.into_own_tensor(&[spec.d_out, spec.d_in], device)?,
            bias,
        })
    }

    pub(super) fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let y = linear(x, &self.weight)?;
        match &self.bias {
            Some(bias) => add(&y, bias),
            None => Ok(y),
        }
    }
}
