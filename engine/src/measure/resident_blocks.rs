//! The parts of a model that stay in memory between measurements.

use super::forward::WAVE_BYTES;
use crate::error::Result;
use crate::model::{Block, BlockPlan, Decoder, Head, ModelPlan};

/// Reads blocks and the head when they are needed, and keeps them for the next turn or the next measurement if all of
/// them fit into a budget. Where they do not, the budget is for activations, so that they are read for more tokens at once.
///
/// Results do not depend on what is kept.
#[derive(Debug)]
pub struct ResidentBlocks<'a> {
    decoder: &'a Decoder<'a>,
    keeps_blocks: Keeps,
    keeps_head: bool,
    wave_bytes: u64,
    blocks: Vec<Block<'a>>,
    head: Option<Head>,
}

/// How blocks are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keeps {
    Nothing,
    /// In the file's own dtype: each product makes f32 of its weights.
    Narrow,
    /// In f32.
    Wide,
}

impl<'a> ResidentBlocks<'a> {
    /// Nothing is read yet. All blocks are kept if they fit into `budget_bytes` together, in f32 if that fits, and the head
    /// if it fits into what is left.
    pub fn new(decoder: &'a Decoder<'a>, budget_bytes: u64) -> Self {
        let (wide, narrow) = (wide_bytes(decoder.plan()), narrow_bytes(decoder));
        let (keeps_blocks, kept) = if wide <= budget_bytes {
            (Keeps::Wide, wide)
        } else if narrow <= budget_bytes {
            (Keeps::Narrow, narrow)
        } else {
            (Keeps::Nothing, 0)
        };
        let left = budget_bytes - kept;
        Self {
            decoder,
            keeps_blocks,
            keeps_head: head_bytes(decoder.plan()) <= left,
            wave_bytes: wave_bytes(keeps_blocks, budget_bytes),
            blocks: Vec::new(),
            head: None,
        }
    }

    /// Keeps nothing, for a model that is gone through once.
    #[must_use]
    pub fn once(self) -> Self {
        Self {
            keeps_blocks: Keeps::Nothing,
            keeps_head: false,
            ..self
        }
    }

    /// Whether blocks are read once, however often they are needed.
    pub fn keeps_blocks(&self) -> bool {
        self.keeps_blocks != Keeps::Nothing
    }

    /// Tokens whose activations may exist at a time.
    pub fn tokens_per_wave(&self) -> usize {
        let token_bytes = self.decoder.plan().hidden * size_of::<f32>();
        usize::try_from(self.wave_bytes).unwrap_or(usize::MAX) / token_bytes
    }

    /// Where blocks come from.
    pub fn decoder(&self) -> &'a Decoder<'a> {
        self.decoder
    }

    pub(super) fn with_block<R>(
        &mut self,
        index: usize,
        work: impl FnOnce(&Block<'_>) -> Result<R>,
    ) -> Result<R> {
        if let Some(block) = self.blocks.get(index) {
            return work(block);
        }
        let mut block = self.decoder.block(index)?;
        if self.keeps_blocks == Keeps::Wide {
            block.widen();
        }
        let result = work(&block)?;
        // Blocks are asked for in order; one that was asked for out of order is read again.
        if self.keeps_blocks != Keeps::Nothing && self.blocks.len() == index {
            self.blocks.push(block);
        }
        Ok(result)
    }

    pub(super) fn with_head<R>(&mut self, work: impl FnOnce(&Head) -> Result<R>) -> Result<R> {
        if let Some(head) = &self.head {
            return work(head);
        }
        let head = self.decoder.head()?;
        let result = work(&head)?;
        if self.keeps_head {
            self.head = Some(head);
        }
        Ok(result)
    }
}

/// Bytes of activations that may go through the blocks together.
fn wave_bytes(keeps_blocks: Keeps, budget_bytes: u64) -> u64 {
    let least = WAVE_BYTES as u64;
    if keeps_blocks == Keeps::Nothing {
        budget_bytes.max(least)
    } else {
        least
    }
}

/// Bytes of the linears of all blocks in f32.
fn wide_bytes(plan: &ModelPlan) -> u64 {
    let weights = plan.blocks.iter().map(BlockPlan::weights);
    weights.sum::<u64>() * size_of::<f32>() as u64
}

/// Bytes of the linears of all blocks as they stand in the file.
fn narrow_bytes(decoder: &Decoder<'_>) -> u64 {
    let linears = decoder.plan().linears();
    linears
        .map(|linear| decoder.checkpoint().bytes_of(&linear.weight()))
        .sum()
}

/// Bytes of the output projection in f32.
fn head_bytes(plan: &ModelPlan) -> u64 {
    plan.vocab as u64 * plan.hidden as u64 * size_of::<f32>() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_that_are_read_again_are_read_for_as_many_tokens_as_fit() {
        let least = WAVE_BYTES as u64;
        assert_eq!(wave_bytes(Keeps::Nothing, 8 * least), 8 * least);
        assert_eq!(wave_bytes(Keeps::Nothing, 0), least);
        for kept in [Keeps::Narrow, Keeps::Wide] {
            assert_eq!(wave_bytes(kept, 8 * least), least);
        }
    }
}
