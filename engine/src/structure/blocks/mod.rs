//! Blocks by their influence: ShortGPT (arXiv 2403.03853, section 3).

#[cfg(test)]
mod tests;

use super::{RankedPart, Rest, Structure, StructureId, ranks};
use crate::error::{EngineError, Result};
use crate::model::{BlockContext, BlockPlan, Decoder, ModelPlan, config_without};
use crate::observe::{PruneMeter, embedded};
use crate::observer::Observer;
use crate::ops::{TokenLayout, sum_of_cosines};
use crate::windows::TokenWindows;

/// `1 − mean_t cos(x_t, y_t)`, x the input and y the output of a block, over all calibration tokens t.
#[derive(Debug, Clone, Copy)]
pub(super) struct Blocks;

impl Structure for Blocks {
    fn name(&self) -> &'static str {
        "blocks"
    }

    fn doc(&self) -> &'static str {
        "Removes whole blocks, those first whose output is nearest to their input: the mean of 1 - cosine over tokens. \
         `sparsity` is the fraction of blocks."
    }

    fn obstacle(&self, plan: &ModelPlan) -> Option<String> {
        plan.fixed_blocks.clone()
    }

    fn competing(&self, plan: &ModelPlan) -> usize {
        plan.blocks.len()
    }

    fn least_weights(&self, plan: &ModelPlan, count: usize) -> u64 {
        let mut weights: Vec<u64> = plan.blocks.iter().map(BlockPlan::weights).collect();
        weights.sort_unstable();
        weights.iter().take(count).sum()
    }

    fn observing_multiplications(&self, block: &BlockPlan) -> u64 {
        block.weights_per_token()
    }

    fn rank(
        &self,
        decoder: &Decoder<'_>,
        windows: &TokenWindows,
        observer: &mut dyn Observer,
    ) -> Result<Vec<RankedPart>> {
        let scores = influences(decoder, windows, observer)?;
        let stack = decoder.plan().stack();
        let ranked = ranks(&scores).into_iter().zip(scores).enumerate();
        Ok(ranked
            .map(|(block, (rank, score))| RankedPart {
                name: format!("{stack}{block}"),
                score,
                rank,
            })
            .collect())
    }

    fn rest(&self, decoder: &Decoder<'_>, parts: &[RankedPart], count: usize) -> Result<Rest> {
        let blocks = parts.iter().enumerate();
        let kept: Vec<usize> = blocks
            .filter_map(|(block, part)| (part.rank >= count).then_some(block))
            .collect();
        let config = config_without(decoder, &kept)?;
        let config = config.map_err(|reason| StructureId::new(&Self).mismatch(reason))?;
        let mut names = vec![None; parts.len()];
        for (new, block) in kept.into_iter().enumerate() {
            names[block] = Some(format!("{}{new}", decoder.plan().stack()));
        }
        Ok(Rest { names, config })
    }
}

/// The influence of every block of a dense decoder.
fn influences(
    decoder: &Decoder<'_>,
    windows: &TokenWindows,
    observer: &mut dyn Observer,
) -> Result<Vec<f64>> {
    let ropes = decoder.ropes(windows.seq_len())?;
    let context = BlockContext {
        ropes: &ropes,
        layout: TokenLayout::Windows(windows.seq_len()),
    };
    let blocks = decoder.plan().blocks.len();
    let mut meter = PruneMeter::once(windows, blocks);
    let mut batches = embedded(decoder, windows)?;
    let mut influences = Vec::with_capacity(blocks);
    for index in 0..blocks {
        let block = decoder.block(index)?;
        let mut cosines = 0.0;
        for x in &mut batches {
            let y = block.forward(x, &context)?;
            cosines += sum_of_cosines(x, &y)?;
            *x = y;
            meter.forwarded(x, observer)?;
        }
        let influence = 1.0 - cosines / windows.n_tokens() as f64;
        if !influence.is_finite() {
            return Err(EngineError::NonFinite {
                what: "activations",
                place: format!("{}{index}", decoder.plan().stack()),
            });
        }
        influences.push(influence);
        meter.block_done(index, observer);
        if observer.should_pause() {
            return Err(EngineError::Stopped);
        }
    }
    Ok(influences)
}
