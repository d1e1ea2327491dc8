//! Batches of tokens through all blocks, each block read once for all of them.

use candle_core::Tensor;

use super::resident_blocks::ResidentBlocks;
use crate::error::{EngineError, Result};
use crate::model::{ModelPlan, RopeTables};
use crate::observer::{Observer, PassProgress};
use crate::ops::{TokenLayout, causal_attention};

/// Bytes of activations that go through the blocks together at least; what does not fit goes in turns ("waves").
pub const WAVE_BYTES: usize = 256 << 20;
/// Bytes of logits that exist at a time.
pub const LOGITS_BYTES: usize = 32 << 20;

/// Tokens that go through a block together.
#[derive(Clone, Copy)]
pub(super) struct Batch<'a> {
    pub(super) ids: &'a [u32],
    pub(super) layout: TokenLayout<'a>,
}

impl<'a> Batch<'a> {
    /// Tokens at these positions that do not see each other.
    pub(super) fn of_rows(ids: &'a [u32], positions: &'a [usize]) -> Self {
        let layout = TokenLayout::Rows(positions);
        Self { ids, layout }
    }
}

/// Rows of logits that may exist at a time.
pub(super) fn rows_of_logits(plan: &ModelPlan) -> usize {
    (LOGITS_BYTES / (plan.vocab * size_of::<f32>())).max(1)
}

/// The attention of a block for a batch: makes `[n_tokens, heads · head_dim]` of the number of the block, that of the
/// batch, and q, k, v.
pub(super) type AttendBatch<'a> =
    &'a mut dyn FnMut(usize, usize, &Tensor, &Tensor, &Tensor) -> Result<Tensor>;

/// The last block's output `[n_tokens, hidden]` for each batch.
pub(super) fn forward(
    model: &mut ResidentBlocks<'_>,
    batches: &[Batch<'_>],
    ropes: &RopeTables,
    meter: &mut Meter<'_>,
) -> Result<Vec<Tensor>> {
    let plan = model.decoder().plan();
    forward_with(model, batches, meter, &mut |block, batch, q, k, v| {
        let shape = plan.blocks[block].attention.shape(ropes);
        Ok(causal_attention(q, k, v, &shape, batches[batch].layout)?)
    })
}

/// The same with another attention, which alone knows how the batches' tokens see each other.
pub(super) fn forward_with(
    model: &mut ResidentBlocks<'_>,
    batches: &[Batch<'_>],
    meter: &mut Meter<'_>,
    attend: AttendBatch<'_>,
) -> Result<Vec<Tensor>> {
    let decoder = model.decoder();
    let mut states = batches
        .iter()
        .map(|batch| decoder.embed(batch.ids, batch.layout))
        .collect::<Result<Vec<Tensor>>>()?;
    for index in 0..decoder.plan().blocks.len() {
        model.with_block(index, |block| {
            for (batch, x) in states.iter_mut().enumerate() {
                let mut attend = |q: &Tensor, k: &Tensor, v: &Tensor| attend(index, batch, q, k, v);
                *x = block.forward_with(x, &mut attend)?;
                meter.forwarded(batches[batch].ids.len())?;
            }
            Ok(())
        })?;
        meter.block_done();
    }
    Ok(states)
}

/// Counts tokens and tells the observer.
pub(super) struct Meter<'a> {
    observer: &'a mut dyn Observer,
    progress: PassProgress,
}

impl<'a> Meter<'a> {
    /// `total_tokens`: tokens times the blocks that each passes.
    pub(super) fn new(
        observer: &'a mut dyn Observer,
        total_blocks: usize,
        total_tokens: u64,
    ) -> Self {
        let progress = PassProgress {
            blocks: 0,
            total_blocks,
            tokens: 0,
            total_tokens,
        };
        Self { observer, progress }
    }

    /// The blocks begin anew, with other tokens.
    pub(super) fn begin_wave(&mut self) {
        self.progress.blocks = 0;
    }

    /// Tokens, times blocks, that turned out not to be needed.
    pub(super) fn skipped(&mut self, tokens: usize) {
        self.progress.tokens += tokens as u64;
        self.observer.progress(self.progress);
    }

    pub(super) fn forwarded(&mut self, tokens: usize) -> Result<()> {
        self.progress.tokens += tokens as u64;
        self.observer.progress(self.progress);
        if self.observer.should_stop() {
            Err(EngineError::Stopped)
        } else {
            Ok(())
        }
    }

    pub(super) fn block_done(&mut self) {
        self.progress.blocks += 1;
        self.observer.progress(self.progress);
    }
}
