//! Scores as keys, read as `u32`, and the weights that they belong to as bits.

use super::choose::{NonFiniteScore, Score};
use super::element::Element;
use crate::simd::{Isa, LANES, dispatch};

/// The key of +∞; NaN and negative numbers have greater ones.
const INFINITY: u32 = 0x7f80_0000;

/// Fills `keys` with the keys of row `row`.
pub(super) fn fill_keys<T: Element>(
    isa: Isa,
    score: &impl Score,
    row: usize,
    values: &[T],
    keys: &mut Vec<u32>,
) -> Result<(), NonFiniteScore> {
    keys.resize(values.len(), 0);
    let mut greatest = 0;
    T::widen(values, |column, wide| {
        let keys = &mut keys[column..][..wide.len()];
        dispatch(isa, || {
            score.fill(row, column, wide, bytemuck::cast_slice_mut(keys));
            greatest = greatest.max(greatest_of(keys));
        });
    });
    if greatest >= INFINITY {
        Err(NonFiniteScore)
    } else {
        Ok(())
    }
}

#[inline(always)]
fn greatest_of(keys: &[u32]) -> u32 {
    let mut greatest = [0u32; LANES];
    let (lanes, tail) = keys.as_chunks::<LANES>();
    for keys in lanes {
        for lane in 0..LANES {
            greatest[lane] = greatest[lane].max(keys[lane]);
        }
    }
    tail.iter().chain(&greatest).copied().max().unwrap_or(0)
}

/// Marks every key that is at most `threshold`.
pub(super) fn mark_up_to(isa: Isa, keys: &[u32], threshold: u32, words: &mut [u64]) {
    dispatch(isa, || {
        let (whole, rest) = keys.as_chunks::<64>();
        for (word, keys) in words.iter_mut().zip(whole) {
            *word = pack(&std::array::from_fn(|i| u8::from(keys[i] <= threshold)));
        }
        if let Some(word) = words.get_mut(whole.len()) {
            let bits = rest.iter().enumerate();
            *word = bits.fold(0, |word, (i, &key)| {
                word | (u64::from(key <= threshold) << i)
            });
        }
    });
}

/// Marks every key below `threshold`, and the first `ties` of those that equal it.
pub(super) fn mark_below(isa: Isa, keys: &[u32], threshold: u32, ties: usize, words: &mut [u64]) {
    if let Some(below) = threshold.checked_sub(1) {
        mark_up_to(isa, keys, below, words);
    }
    let equal = keys
        .iter()
        .enumerate()
        .filter(|&(_, &key)| key == threshold);
    for (at, _) in equal.take(ties) {
        words[at / 64] |= 1 << (at % 64);
    }
}

/// Flags of 0 or 1 as bits, the first one lowest.
#[inline(always)]
pub(super) fn pack(flags: &[u8; 64]) -> u64 {
    /// Moves the flag in byte `i` to bit `56 + i`.
    const GATHER: u64 = 0x0102_0408_1020_4080;
    let (bytes, _) = flags.as_chunks::<8>();
    let packed = bytes.iter().enumerate();
    packed.fold(0, |word, (i, flags)| {
        word | (u64::from_le_bytes(*flags).wrapping_mul(GATHER) >> 56) << (8 * i)
    })
}
