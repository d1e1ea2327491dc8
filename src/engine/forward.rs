//! Batches of tokens through all blocks, each block read once for all of them.

use candle_core::Tensor;

use super::error::{EngineError, Result};
use super::model::{BlockContext, ModelConfig, RopeTable};
use super::observer::{Observer, Progress};
use super::ops::TokenLayout;
use super::resident_blocks::ResidentBlocks;

/// Bytes of activations that go through the blocks together; more batches go in turns ("waves").
const WAVE_BYTES: usize = 256 << 20;
/// Bytes of logits that exist at a time.
const LOGITS_BYTES: usize = 32 << 20;

/// Tokens that go through a block together.
#[derive(Clone, Copy)]
pub(super) struct Batch<'a> {
    pub(super) ids: &'a [u32],
    pub(super) layout: TokenLayout<'a>,
}

/// Tokens whose activations may exist at a time.
pub(super) fn tokens_per_wave(config: &ModelConfig) -> usize {
    WAVE_BYTES / (config.hidden * size_of::<f32>())
}

/// Rows of logits that may exist at a time.
pub(super) fn rows_of_logits(config: &ModelConfig) -> usize {
    (LOGITS_BYTES / (config.vocab * size_of::<f32>())).max(1)
}

/// The last block's output `[n_tokens, hidden]` for each batch.
pub(super) fn forward(
    model: &mut ResidentBlocks<'_>,
    batches: &[Batch<'_>],
    rope: &RopeTable,
    meter: &mut Meter<'_>,
) -> Result<Vec<Tensor>> {
    let decoder = model.decoder();
    let mut states = batches
        .iter()
        .map(|batch| decoder.embed(batch.ids))
        .collect::<Result<Vec<Tensor>>>()?;
    meter.begin_wave();
    for index in 0..decoder.config().blocks {
        model.with_block(index, |block| {
            for (x, batch) in states.iter_mut().zip(batches) {
                let context = BlockContext {
                    config: decoder.config(),
                    rope,
                    layout: batch.layout,
                };
                *x = block.forward(x, &context)?;
                meter.forwarded(batch.ids.len())?;
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
    progress: Progress,
}

impl<'a> Meter<'a> {
    /// `total_tokens`: tokens times the blocks that each passes.
    pub(super) fn new(
        observer: &'a mut dyn Observer,
        total_blocks: usize,
        total_tokens: u64,
    ) -> Self {
        let progress = Progress {
            blocks: 0,
            total_blocks,
            tokens: 0,
            total_tokens,
        };
        Self { observer, progress }
    }

    pub(super) fn begin_wave(&mut self) {
        self.progress.blocks = 0;
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
