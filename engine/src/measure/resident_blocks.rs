//! The parts of a model that stay in memory between measurements.

use crate::error::Result;
use crate::model::{Block, BlockPlan, Decoder, Head, ModelPlan};

/// Reads blocks and the head when they are needed, and keeps them for the next turn or the next measurement if all of
/// them fit into a budget.
///
/// Results do not depend on what is kept.
#[derive(Debug)]
pub struct ResidentBlocks<'a> {
    decoder: &'a Decoder<'a>,
    keeps_blocks: Keeps,
    keeps_head: bool,
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
    /// Nothing is read yet. All blocks are kept if they fit into `resident_bytes` together, in f32 if that fits, and the
    /// head if it fits into what is left.
    pub fn new(decoder: &'a Decoder<'a>, resident_bytes: u64) -> Self {
        let (wide, narrow) = (wide_bytes(decoder.plan()), narrow_bytes(decoder));
        let (keeps_blocks, kept) = if wide <= resident_bytes {
            (Keeps::Wide, wide)
        } else if narrow <= resident_bytes {
            (Keeps::Narrow, narrow)
        } else {
            (Keeps::Nothing, 0)
        };
        Self {
            decoder,
            keeps_blocks,
            keeps_head: head_bytes(decoder.plan()) <= resident_bytes - kept,
            blocks: Vec::new(),
            head: None,
        }
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
            block.widen()?;
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
