//! Observing the inputs of linears on calibration windows.

use candle_core::Tensor;

use super::error::{EngineError, Result};
use super::model::{Block, BlockContext, Decoder};
use super::observer::{Observer, PassProgress};
use super::ops::TokenLayout;
use super::statistic::{BlockStatistics, Statistic};
use super::windows::TokenWindows;

/// Shows `sink` what was collected of each block of a dense decoder, by the block's number.
pub fn observe(
    decoder: &Decoder<'_>,
    windows: &TokenWindows,
    wanted: &[Statistic],
    observer: &mut dyn Observer,
    sink: &mut dyn FnMut(usize, &BlockStatistics) -> Result<()>,
) -> Result<()> {
    let ropes = decoder.ropes(windows.seq_len())?;
    let context = BlockContext {
        ropes: &ropes,
        layout: TokenLayout::Windows(windows.seq_len()),
    };
    let blocks = decoder.plan().blocks.len();
    let mut meter = PruneMeter::new(windows, blocks, 0);
    let mut batches = embedded(decoder, windows)?;
    for index in 0..blocks {
        let block = decoder.block(index)?;
        let mut pass = BlockPass {
            context: &context,
            n_windows: windows.len(),
            seq_len: windows.seq_len(),
            meter: &mut meter,
            observer: &mut *observer,
        };
        sink(index, &pass.observe(&block, &batches, wanted)?)?;
        if index + 1 < blocks {
            pass.forward(&block, &mut batches)?;
        }
        meter.block_done(index, observer);
    }
    Ok(())
}

/// The inputs of the first block, batch by batch.
pub(super) fn embedded(decoder: &Decoder<'_>, windows: &TokenWindows) -> Result<Vec<Tensor>> {
    let layout = TokenLayout::Windows(windows.seq_len());
    let batches = windows.batches().map(|ids| decoder.embed(ids, layout));
    batches.collect()
}

/// What it takes to send batches through a block.
pub(super) struct BlockPass<'a> {
    pub(super) context: &'a BlockContext<'a>,
    pub(super) n_windows: usize,
    /// Tokens of a window.
    pub(super) seq_len: usize,
    pub(super) meter: &'a mut PruneMeter,
    pub(super) observer: &'a mut dyn Observer,
}

impl BlockPass<'_> {
    /// Collects `wanted` of the inputs of the block's linears.
    pub(super) fn observe(
        &mut self,
        block: &Block<'_>,
        batches: &[Tensor],
        wanted: &[Statistic],
    ) -> Result<BlockStatistics> {
        let seen = BlockStatistics::collecting(wanted, block.plan(), self.n_windows);
        let mut seen = seen.in_windows_of(self.seq_len);
        for x in batches {
            block.observe(x, self.context, &mut |input, x, rows| {
                seen.add(input, x, rows)
            })?;
            self.meter.forwarded(x, self.observer)?;
        }
        for input in block.plan().input_ids() {
            seen.finish(block.plan(), input)?;
        }
        Ok(seen)
    }

    /// Puts the block's outputs in place of its inputs.
    pub(super) fn forward(&mut self, block: &Block<'_>, batches: &mut [Tensor]) -> Result<()> {
        for x in batches {
            *x = block.forward(x, self.context)?;
            self.meter.forwarded(x, self.observer)?;
        }
        Ok(())
    }
}

/// Counts tokens and tells the observer.
pub(super) struct PruneMeter {
    progress: PassProgress,
}

impl PruneMeter {
    /// Every block but the last is passed twice.
    pub(super) fn new(windows: &TokenWindows, blocks: usize, first: usize) -> Self {
        let tokens = windows.n_tokens() as u64;
        let total_tokens = tokens * (2 * blocks as u64 - 1);
        Self {
            progress: PassProgress {
                blocks: first,
                total_blocks: blocks,
                tokens: tokens * 2 * first as u64,
                total_tokens,
            },
        }
    }

    /// Every block is passed once, to its end.
    pub(super) fn once(windows: &TokenWindows, blocks: usize) -> Self {
        let mut meter = Self::new(windows, blocks, 0);
        meter.progress.total_tokens = windows.n_tokens() as u64 * blocks as u64;
        meter
    }

    /// After a pass in which so many tokens were counted already.
    pub(super) fn after(mut self, tokens: u64) -> Self {
        self.progress.tokens += tokens;
        self.progress.total_tokens += tokens;
        self
    }

    pub(super) fn total_tokens(&self) -> u64 {
        self.progress.total_tokens
    }

    pub(super) fn forwarded(&mut self, x: &Tensor, observer: &mut dyn Observer) -> Result<()> {
        self.progress.tokens += x.dim(0)? as u64;
        observer.progress(self.progress);
        if observer.should_stop() {
            Err(EngineError::Stopped)
        } else {
            Ok(())
        }
    }

    pub(super) fn block_done(&mut self, index: usize, observer: &mut dyn Observer) {
        self.progress.blocks = index + 1;
        observer.progress(self.progress);
        observer.block_done(index + 1);
    }
}
