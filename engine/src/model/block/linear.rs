//! The linears of a resident block.

use std::sync::OnceLock;

use candle_core::{Device, Tensor};

use crate::checkpoint::Checkpoint;
use crate::error::Result;
use crate::model::plan::LinearSpec;
use crate::ops::{add, linear, widen};

/// `y = x · weightᵀ + bias`, read when it is first needed: an expert that no token is sent to is not read.
#[derive(Debug, Clone)]
pub(super) struct Linear<'p> {
    checkpoint: &'p Checkpoint,
    spec: &'p LinearSpec,
    device: Device,
    /// Whether products follow each other, so that the weight is better f32.
    is_wide: bool,
    read: OnceLock<Parameters>,
}

#[derive(Debug, Clone)]
struct Parameters {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl<'p> Linear<'p> {
    pub(super) fn new(checkpoint: &'p Checkpoint, spec: &'p LinearSpec, device: &Device) -> Self {
        Self {
            checkpoint,
            spec,
            device: device.clone(),
            is_wide: false,
            read: OnceLock::new(),
        }
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let Parameters { weight, bias } = self.parameters()?;
        let y = linear(x, weight)?;
        Ok(match bias {
            Some(bias) => add(&y, bias)?,
            None => y,
        })
    }

    /// As it stands in the file, or was put in place of that.
    pub(super) fn weight(&self) -> Result<&Tensor> {
        Ok(&self.parameters()?.weight)
    }

    /// Makes the weight f32 when it is read.
    pub(super) fn widen(&mut self) {
        self.is_wide = true;
    }

    /// Puts another weight in place of its own.
    pub(super) fn replace(&mut self, weight: Tensor) -> Result<()> {
        let bias = self.parameters()?.bias.clone();
        self.read = OnceLock::from(Parameters { weight, bias });
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn is_read(&self) -> bool {
        self.read.get().is_some()
    }

    fn parameters(&self) -> Result<&Parameters> {
        if let Some(parameters) = self.read.get() {
            return Ok(parameters);
        }
        let parameters = self.load()?;
        Ok(self.read.get_or_init(|| parameters))
    }

    fn load(&self) -> Result<Parameters> {
        let (spec, device) = (self.spec, &self.device);
        let weight = self.checkpoint.read(&spec.weight())?;
        let weight = weight.into_own_tensor(&[spec.d_out, spec.d_in], device)?;
        let bias = if spec.has_bias {
            let bias = self.checkpoint.read(&spec.bias())?;
            Some(bias.into_tensor(&[spec.d_out], device)?)
        } else {
            None
        };
        Ok(Parameters {
            weight: if self.is_wide {
                widen(&weight)?
            } else {
                weight
            },
            bias,
        })
    }
}
