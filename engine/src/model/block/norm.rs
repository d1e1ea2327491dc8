//! Norms with their weights.

use candle_core::{Device, Tensor};

use crate::checkpoint::Checkpoint;
use crate::error::Result;
use crate::model::plan::{NormKind, NormSpec, PartNorms};
use crate::ops::{add, layer_norm, rms_norm};

/// A norm as its [`NormSpec`] says.
#[derive(Debug, Clone)]
pub(in crate::model) struct Norm {
    weight: Tensor,
    /// Only a layer norm has one.
    bias: Option<Tensor>,
    eps: f32,
}

impl Norm {
    pub(in crate::model) fn load(
        checkpoint: &Checkpoint,
        spec: &NormSpec,
        device: &Device,
    ) -> Result<Self> {
        let weight = checkpoint.read(&spec.weight())?;
        let weight = weight.into_tensor(&[spec.width], device)?;
        let weight = match spec.kind {
            NormKind::Rms | NormKind::Layer => weight,
            NormKind::RmsFromOne => (weight + 1.0)?,
        };
        let bias = match spec.bias() {
            Some(name) => Some(checkpoint.read(&name)?.into_tensor(&[spec.width], device)?),
            None => None,
        };
        Ok(Self {
            weight,
            bias,
            eps: spec.eps,
        })
    }

    pub(in crate::model) fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        match &self.bias {
            Some(bias) => layer_norm(x, &self.weight, bias, self.eps),
            None => rms_norm(x, &self.weight, self.eps),
        }
    }
}

impl PartNorms<Norm> {
    /// What the part reads of `x`.
    pub(super) fn enter(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        match &self.input {
            Some(norm) => norm.forward(x),
            None => Ok(x.clone()),
        }
    }

    /// The residual stream `x` with what the part made, `y`.
    pub(super) fn join(&self, x: &Tensor, y: &Tensor) -> candle_core::Result<Tensor> {
        let sum = match &self.output {
            Some(norm) => add(x, &norm.forward(y)?)?,
            None => add(x, y)?,
        };
        match &self.sum {
            Some(norm) => norm.forward(&sum),
            None => Ok(sum),
        }
    }
}
