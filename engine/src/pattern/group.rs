//! The lowest keys of each group of M consecutive ones.

use super::keys::pack;
use crate::simd::{Isa, dispatch};

/// Marks, in each `group` keys of a row, the `zeros` lowest.
pub(super) fn mark(isa: Isa, keys: &[u32], zeros: usize, group: usize, words: &mut [u64]) {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "less than the group's size"
    )]
    let narrow = zeros as u32;
    match group {
        4 => dispatch(isa, || mark_fixed::<4>(keys, narrow, words)),
        8 => dispatch(isa, || mark_fixed::<8>(keys, narrow, words)),
        _ => mark_each(keys, zeros, group, words),
    }
}

/// Group by group.
fn mark_each(keys: &[u32], zeros: usize, group: usize, words: &mut [u64]) {
    for (number, keys) in keys.chunks_exact(group).enumerate() {
        for i in (0..group).filter(|&i| is_among_lowest(keys, i, zeros)) {
            let at = number * group + i;
            words[at / 64] |= 1 << (at % 64);
        }
    }
}

/// Whether number `i` is one of the `zeros` lowest keys of its group.
pub(crate) fn is_among_lowest(keys: &[u32], i: usize, zeros: usize) -> bool {
    rank(keys, i) < zeros
}

/// How many of the others go before number `i`: those with a lower key, and equal ones before it.
#[inline(always)]
fn rank(keys: &[u32], i: usize) -> usize {
    let before = keys[..i].iter().filter(|&&key| key <= keys[i]).count();
    let after = keys[i + 1..].iter().filter(|&&key| key < keys[i]).count();
    before + after
}

/// The same with the group's size known to the compiler, which unrolls it into comparisons without a branch.
#[inline(always)]
fn mark_fixed<const M: usize>(keys: &[u32], zeros: u32, words: &mut [u64]) {
    for (word, keys) in words.iter_mut().zip(keys.chunks(64)) {
        let mut flags = [0; 64];
        let (groups, _) = flags.as_chunks_mut::<M>();
        let (key_groups, _) = keys.as_chunks::<M>();
        for (flags, keys) in groups.iter_mut().zip(key_groups) {
            // An equal key that stands before goes first: it is less than this one plus one.
            let ranks: [u32; M] = std::array::from_fn(|i| {
                (0..M)
                    .map(|j| u32::from(keys[j] < keys[i] + u32::from(j < i)))
                    .sum()
            });
            for i in 0..M {
                flags[i] = u8::from(ranks[i] < zeros);
            }
        }
        *word = pack(&flags);
    }
}
