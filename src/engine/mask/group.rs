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
    match group {
        4 => dispatch(isa, || prune_fixed::<T, 4>(row, keys, zeros)),
        8 => dispatch(isa, || prune_fixed::<T, 8>(row, keys, zeros)),
        _ => {
            for (values, keys) in row.chunks_exact_mut(group).zip(keys.chunks_exact(group)) {
                for (i, value) in values.iter_mut().enumerate() {
                    if rank(keys, i) < zeros {
                        *value = T::ZERO;
                    }
                }
            }
        }
    }
    Ok(())
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
fn prune_fixed<T: Element, const M: usize>(row: &mut [T], keys: &[u32], zeros: usize) {
    let (groups, _) = row.as_chunks_mut::<M>();
    let (key_groups, _) = keys.as_chunks::<M>();
    for (values, keys) in groups.iter_mut().zip(key_groups) {
        for i in 0..M {
            let mut rank = 0;
            for j in 0..M {
                let goes_first = if j < i {
                    keys[j] <= keys[i]
                } else {
                    keys[j] < keys[i]
                };
                rank += u32::from(goes_first);
            }
            values[i] = if (rank as usize) < zeros {
                T::ZERO
            } else {
                values[i]
            };
        }
    }
}
