//! One block of the pruned model beside the same block of the dense one.
//!
//! The dense model's residual stream and that of the pruned one go through the block together. Linears are pruned in
//! the order of the computation, each on inputs that the linears before it made when they were pruned already, and
//! fitted to what the dense model has at that place (see [`Pairing`](crate::statistic)). So what an earlier linear
//! lost is made up for by the later ones.
//!
//! Each stream chooses its experts by its own tokens. The linears of an expert are fitted on the tokens that the pruned
//! stream sends to it, to what the dense expert makes of the same tokens in the dense stream. What the residual stream
//! lost before is no expert's alone: an expert's output does not make up for it.

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
    let attention = &plan.attention;
    let (pruned_xs, dense_xs) = streams.split_at_mut(streams.len() / 2);
    let seen = BlockStatistics::pairing(needs, plan, hidden, pass.n_windows);
    let mut seen = seen.in_windows_of(pass.seq_len);

    let input = plan.linear(attention.qkv.first()).input;
    for (p, d) in pruned_xs.iter().zip(&*dense_xs) {
        let pair = [&work.block.attention_input(p)?, &dense.attention_input(d)?];
        seen.add_pair(input, pair, None, None)?;
    }
    work.prune(input, &mut seen)?;

    let input = plan.linear(attention.o).input;
    let mut attended = Vec::with_capacity(pruned_xs.len());
    for (p, d) in pruned_xs.iter().zip(&*dense_xs) {
        let of_pruned = work
            .block
            .attended(&work.block.attention_input(p)?, pass.context)?;
        let of_dense = dense.attended(&dense.attention_input(d)?, pass.context)?;
        seen.add_pair(input, [&of_pruned, &of_dense], Some(&(d - p)?), None)?;
        attended.push([of_pruned, of_dense]);
        pass.meter.forwarded(p, pass.observer)?;
    }
    work.prune(input, &mut seen)?;

    work.inputs_go(pass.observer)?;
    let mut read = Vec::with_capacity(pruned_xs.len());
    let batches = pruned_xs.iter_mut().zip(&mut *dense_xs);
    for ((p, d), [of_pruned, of_dense]) in batches.zip(attended) {
        let h = work.block.after_attention(p, &of_pruned)?;
        let of_pruned = work.block.feed_forward_input(p, &h)?;
        *p = h;
        let h = dense.after_attention(d, &of_dense)?;
        let of_dense = dense.feed_forward_input(d, &h)?;
        *d = h;
        read.push([of_pruned, of_dense]);
    }
    let ahead = |at: usize| &dense_xs[at] - &pruned_xs[at];
    prune_mlps(work, &dense, &read, &ahead, &mut seen)?;

    if !work.is_last {
        let batches = pruned_xs.iter_mut().zip(dense_xs);
        for ((p, d), [of_pruned, of_dense]) in batches.zip(&read) {
            let y = work.block.feed_forward(of_pruned)?;
            *p = work.block.after_feed_forward(p, &y)?;
            *d = dense.after_feed_forward(d, &dense.feed_forward(of_dense)?)?;
            pass.meter.forwarded(p, pass.observer)?;
        }
    }
    Ok(seen)
}

/// Prunes one MLP after the other. `read`: what both feed-forward parts read, batch by batch; `ahead`: how far the dense
/// residual stream is ahead.
fn prune_mlps(
    work: &mut BlockWork<'_, '_, '_>,
    dense: &Block<'_>,
    read: &[[Tensor; 2]],
    ahead: &dyn Fn(usize) -> candle_core::Result<Tensor>,
    seen: &mut BlockStatistics,
) -> Result<()> {
    let plan = dense.plan();
    let shares = read
        .iter()
        .map(|[of_pruned, _]| work.block.shares(of_pruned));
    let shares = shares.collect::<Result<Vec<_>>>()?;
    for (index, &mlp) in plan.feed_forward.mlps.all().iter().enumerate() {
        let shares = || {
            let all = shares.iter().map(|of_batch| &of_batch[index]).enumerate();
            all.filter(|(_, share)| !share.is_empty())
        };
        let input = plan.linear(mlp.up.first()).input;
        for (at, share) in shares() {
            let [of_pruned, of_dense] = &read[at];
            let pair = [&*share.read(of_pruned)?, &*share.read(of_dense)?];
            seen.add_pair(input, pair, None, share.rows())?;
        }
        work.prune(input, seen)?;

        let input = plan.linear(mlp.down).input;
        for (at, share) in shares() {
            let [of_pruned, of_dense] = &read[at];
            let of_pruned = work.block.gated(mlp, &*share.read(of_pruned)?)?;
            let of_dense = dense.gated(mlp, &*share.read(of_dense)?)?;
            let ahead = match share.rows() {
                None => Some(ahead(at)?),
                Some(_) => None,
            };
            let pair = [&of_pruned, &of_dense];
            seen.add_pair(input, pair, ahead.as_ref(), share.rows())?;
        }
        work.prune(input, seen)?;
    }
    Ok(())
}
