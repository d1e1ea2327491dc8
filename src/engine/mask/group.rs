//! The lowest keys of each group of M consecutive ones.

use super::Scratch;
use super::keys::{Element, NonFiniteScore, scores};
use crate::engine::simd::{Isa, dispatch};

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

/// Groups that are ranked together, one per lane.
const GROUPS: usize = 16;

/// The same with the group's size known to the compiler: the keys of 16 groups are laid lane by lane, and every pair within
/// a group is compared for all of them at once.
#[inline(always)]
fn prune_fixed<T: Element, const M: usize>(row: &mut [T], keys: &[u32], zeros: u32) {
    let mut tasks = row
        .chunks_exact_mut(M * GROUPS)
        .zip(keys.chunks_exact(M * GROUPS));
    for (values, keys) in &mut tasks {
        prune_lanes::<T, M>(values, keys, zeros);
    }
    let done = row.len() / (M * GROUPS) * (M * GROUPS);
    prune_each(&mut row[done..], &keys[done..], zeros as usize, M);
}

#[inline(always)]
fn prune_lanes<T: Element, const M: usize>(values: &mut [T], keys: &[u32], zeros: u32) {
    let mut lanes = [[0u32; GROUPS]; M];
    for group in 0..GROUPS {
        for i in 0..M {
            lanes[i][group] = keys[group * M + i];
        }
    }
    // How many of its group are pruned before each: those with a lower key, and equal ones that stand before it.
    let mut ranks = [[0u32; GROUPS]; M];
    for i in 0..M {
        for j in i + 1..M {
            for group in 0..GROUPS {
                let first = u32::from(lanes[i][group] <= lanes[j][group]);
                ranks[j][group] += first;
                ranks[i][group] += 1 - first;
            }
        }
    }
    for group in 0..GROUPS {
        for i in 0..M {
            let value = &mut values[group * M + i];
            *value = if ranks[i][group] < zeros {
                T::ZERO
            } else {
                *value
            };
        }
    }
}
