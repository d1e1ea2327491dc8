//! The lowest keys of each group of M consecutive ones.

use super::Scratch;
use super::keys::{Element, NonFiniteScore, scores};
use crate::simd::{Isa, dispatch};

/// Zeroes, in each `group` values of the row, the `zeros` with the lowest keys.
pub(super) fn prune_groups<T: Element>(
    isa: Isa,
    row: &mut [T],
    norms: &[f32],
    zeros: usize,
    group: usize,
    scratch: &mut Scratch,
) -> Result<(), NonFiniteScore> {
    scores(isa, row, norms, &mut scratch.keys)?;
    let keys = scratch.keys.as_slice();
    #[expect(
        clippy::cast_possible_truncation,
        reason = "less than the group's size"
    )]
    let narrow = zeros as u32;
    match group {
        4 => dispatch(isa, || prune_fixed::<T, 4>(row, keys, narrow)),
        8 => dispatch(isa, || prune_fixed::<T, 8>(row, keys, narrow)),
        _ => prune_each(row, keys, zeros, group),
    }
    Ok(())
}

/// Group by group.
fn prune_each<T: Element>(row: &mut [T], keys: &[u32], zeros: usize, group: usize) {
    for (values, keys) in row.chunks_exact_mut(group).zip(keys.chunks_exact(group)) {
        for (i, value) in values.iter_mut().enumerate() {
            if rank(keys, i) < zeros {
                *value = T::ZERO;
            }
        }
    }
}

/// How many of the others are pruned before number `i`: those with a lower key, and equal ones before it.
#[inline(always)]
fn rank(keys: &[u32], i: usize) -> usize {
    let before = keys[..i].iter().filter(|&&key| key <= keys[i]).count();
    let after = keys[i + 1..].iter().filter(|&&key| key < keys[i]).count();
    before + after
}

/// The same with the group's size known to the compiler, which unrolls it into comparisons without a branch.
#[inline(always)]
fn prune_fixed<T: Element, const M: usize>(row: &mut [T], keys: &[u32], zeros: u32) {
    let (groups, _) = row.as_chunks_mut::<M>();
    let (key_groups, _) = keys.as_chunks::<M>();
    for (values, keys) in groups.iter_mut().zip(key_groups) {
        let ranks: [u32; M] = std::array::from_fn(|i| {
            // An equal key that stands before goes first: it is less than this one plus one.
            (0..M)
                .map(|j| u32::from(keys[j] < keys[i] + u32::from(j < i)))
                .sum()
        });
        for i in 0..M {
            values[i] = if ranks[i] < zeros { T::ZERO } else { values[i] };
        }
    }
}
