//! One block of the pruned model beside the same block of the dense one.
//!
//! The dense model's residual stream and that of the pruned one go through the block together. Linears are pruned in
//! the order of the computation, each on inputs that the linears before it made when they were pruned already, and
//! fitted to what the dense model has at that place (see [`Pairing`](crate::statistic)). So what an earlier linear
//! lost is made up for by the later ones.

use candle_core::Tensor;

use super::BlockWork;
use crate::error::Result;
use crate::model::Block;
use crate::observe::BlockPass;
use crate::statistic::{BlockStatistics, Statistic};

/// Prunes a block and puts its outputs in place of its inputs: those of the pruned model, then those of the dense one.
pub(super) fn prune_block(
    work: &mut BlockWork<'_, '_, '_>,
    pass: &mut BlockPass<'_>,
    streams: &mut [Tensor],
    needs: &[Statistic],
    hidden: usize,
) -> Result<BlockStatistics> {
    let dense = work.block.clone();
    let plan = dense.plan();
    let (attention, mlp) = (&plan.attention, &plan.feed_forward.mlp);
    let (pruned_xs, dense_xs) = streams.split_at_mut(streams.len() / 2);
    let seen = BlockStatistics::pairing(needs, plan, hidden, pass.n_windows);
    let mut seen = seen.in_windows_of(pass.seq_len);

    let input = plan.linear(attention.qkv.first()).input;
    for (p, d) in pruned_xs.iter().zip(&*dense_xs) {
        let pair = [&work.block.attention_input(p)?, &dense.attention_input(d)?];
        seen.add_pair(input, pair, None)?;
    }
    work.prune(input, &mut seen)?;

    let input = plan.linear(attention.o).input;
    let mut attended = Vec::with_capacity(pruned_xs.len());
    for (p, d) in pruned_xs.iter().zip(&*dense_xs) {
        let of_pruned = work
            .block
            .attended(&work.block.attention_input(p)?, pass.context)?;
        let of_dense = dense.attended(&dense.attention_input(d)?, pass.context)?;
        seen.add_pair(input, [&of_pruned, &of_dense], Some(&(d - p)?))?;
        attended.push([of_pruned, of_dense]);
        pass.meter.forwarded(p, pass.observer)?;
    }
    work.prune(input, &mut seen)?;

    work.inputs_go(pass.observer)?;
    let input = plan.linear(mlp.up.first()).input;
    let mut kept = Vec::new();
    let batches = pruned_xs.iter_mut().zip(&mut *dense_xs);
    for ((p, d), [of_pruned, of_dense]) in batches.zip(attended) {
        let h = work.block.after_attention(p, &of_pruned)?;
        let of_pruned = work.block.feed_forward_input(p, &h)?;
        *p = h;
        let h = dense.after_attention(d, &of_dense)?;
        let of_dense = dense.feed_forward_input(d, &h)?;
        *d = h;
        seen.add_pair(input, [&of_pruned, &of_dense], None)?;
        // The block's input is gone now.
        if plan.is_parallel {
            kept.push([of_pruned, of_dense]);
        }
    }
    work.prune(input, &mut seen)?;

    let input = plan.linear(mlp.down).input;
    let blocks = [&work.block, &dense];
    for (at, (p, d)) in pruned_xs.iter().zip(&*dense_xs).enumerate() {
        let [of_pruned, of_dense] = gated(blocks, [p, d], kept.get(at))?;
        seen.add_pair(input, [&of_pruned, &of_dense], Some(&(d - p)?))?;
    }
    work.prune(input, &mut seen)?;

    if !work.is_last {
        let blocks = [&work.block, &dense];
        for (at, (p, d)) in pruned_xs.iter_mut().zip(dense_xs).enumerate() {
            let [of_pruned, of_dense] = gated(blocks, [p, d], kept.get(at))?;
            *p = work.block.after_feed_forward(p, &of_pruned)?;
            *d = dense.after_feed_forward(d, &of_dense)?;
            pass.meter.forwarded(p, pass.observer)?;
        }
    }
    Ok(seen)
}

/// What is within both feed-forward parts; what they read is kept, or made of the residual streams.
fn gated(
    blocks: [&Block<'_>; 2],
    streams: [&Tensor; 2],
    kept: Option<&[Tensor; 2]>,
) -> Result<[Tensor; 2]> {
    let gated = |at: usize| match kept {
        Some(read) => blocks[at].gated(&read[at]),
        None => blocks[at].gated(&blocks[at].feed_forward_input(streams[at], streams[at])?),
    };
    Ok([gated(0)?, gated(1)?])
}
