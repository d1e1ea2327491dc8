//! Turned keys, and values, of the tokens that a model has seen.

use candle_core::{DType, Device, Tensor};

use crate::error::Result;
use crate::model::ModelPlan;

/// Room for the tokens of some sequences: for each block two tensors `[rows, kv_heads · head_dim]`, f32.
pub(super) struct KvCache {
    k: Vec<Tensor>,
    v: Vec<Tensor>,
}

impl KvCache {
    pub(super) fn new(plan: &ModelPlan, rows: usize, device: &Device) -> Result<Self> {
        let tensors = || {
            kv_widths(plan)
                .map(|width| Tensor::zeros((rows, width), DType::F32, device))
                .collect::<candle_core::Result<Vec<_>>>()
        };
        Ok(Self {
            k: tensors()?,
            v: tensors()?,
        })
    }

    /// What one token takes.
    pub(super) fn bytes_per_row(plan: &ModelPlan) -> u64 {
        let values = 2 * kv_widths(plan).sum::<usize>();
        (values * size_of::<f32>()) as u64
    }

    /// Writes turned keys and values `[n, kv_heads · head_dim]` to the rows from `start` on.
    pub(super) fn write(&self, block: usize, start: usize, k: &Tensor, v: &Tensor) -> Result<()> {
        self.k[block].slice_set(k, 0, start)?;
        self.v[block].slice_set(v, 0, start)?;
        Ok(())
    }

    /// Keys and values of a block.
    pub(super) fn of(&self, block: usize) -> (&Tensor, &Tensor) {
        (&self.k[block], &self.v[block])
    }
}

fn kv_widths(plan: &ModelPlan) -> impl Iterator<Item = usize> {
    plan.blocks.iter().map(|block| block.attention.kv_width())
}
