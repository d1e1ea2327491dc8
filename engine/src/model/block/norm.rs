//! Norms with their weights.

use candle_core::{Device, Tensor};

use crate::checkpoint::Checkpoint;
use crate::error::Result;
use crate::model::plan::{NormKind, NormSpec, PartNorms};
use crate::ops::{add, rms_norm};

/// A norm as its [`NormSpec`] says.
#[derive(Debug, Clone)]
pub(in crate::model) struct Norm {
    weight: Tensor,
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
            NormKind::Rms => weight,
            NormKind::RmsFromOne => (weight + 1.0)?,
        };
        Ok(Self {
            weight,
            eps: spec.eps,
        })
    }

    pub(in crate::model) fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        rms_norm(x, &self.weight, self.eps)
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
        match &self.output {
            Some(norm) => add(x, &norm.forward(y)?),
            None => add(x, y),
        }
    }
}
