//! Scores as keys: `|w| · norm` in f32, read as `u32`.

use half::slice::HalfFloatSliceExt as _;
use half::{bf16, f16};

use crate::simd::{Isa, LANES, dispatch};

/// A score was NaN or infinite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NonFiniteScore;

/// The key of +∞; NaN has greater ones.
const INFINITY: u32 = 0x7f80_0000;

/// A weight in the dtype of its file.
pub(super) trait Element: Copy + Send + Sync + 'static {
    /// Zero.
    const ZERO: Self;

    /// Calls `f` with the values in f32, in pieces of at most [`PIECE`], in order.
    fn widen(values: &[Self], f: impl FnMut(usize, &[f32]));
}

/// Values that are widened at a time; they stay in the first-level cache.
const PIECE: usize = 2048;

impl Element for f32 {
    const ZERO: Self = 0.0;

    fn widen(values: &[Self], mut f: impl FnMut(usize, &[Self])) {
        f(0, values);
    }
}

impl Element for bf16 {
    const ZERO: Self = Self::ZERO;

    fn widen(values: &[Self], mut f: impl FnMut(usize, &[f32])) {
        let mut wide = [0f32; PIECE];
        for (i, piece) in values.chunks(PIECE).enumerate() {
            // A bf16 is the upper half of an f32.
            wide.iter_mut()
                .zip(piece)
                .for_each(|(w, v)| *w = f32::from_bits(u32::from(v.to_bits()) << 16));
            f(i * PIECE, &wide[..piece.len()]);
        }
    }
}

impl Element for f16 {
    const ZERO: Self = Self::ZERO;

    fn widen(values: &[Self], mut f: impl FnMut(usize, &[f32])) {
        let mut wide = [0f32; PIECE];
        for (i, piece) in values.chunks(PIECE).enumerate() {
            piece.convert_to_f32_slice(&mut wide[..piece.len()]);
            f(i * PIECE, &wide[..piece.len()]);
        }
    }
}

/// Fills `keys` with the keys of `values`; `norms` has the same length.
pub(super) fn scores<T: Element>(
    isa: Isa,
    values: &[T],
    norms: &[f32],
    keys: &mut Vec<u32>,
) -> Result<(), NonFiniteScore> {
    keys.resize(values.len(), 0);
    let mut greatest = 0;
    T::widen(values, |start, wide| {
        let (norms, keys) = (
            &norms[start..][..wide.len()],
            &mut keys[start..][..wide.len()],
        );
        greatest = greatest.max(dispatch(isa, || fill(wide, norms, keys)));
    });
    if greatest >= INFINITY {
        Err(NonFiniteScore)
    } else {
        Ok(())
    }
}

/// Returns the greatest key.
#[inline(always)]
fn fill(values: &[f32], norms: &[f32], keys: &mut [u32]) -> u32 {
    let mut greatest = [0u32; LANES];
    let (value_lanes, value_tail) = values.as_chunks::<LANES>();
    let (norm_lanes, norm_tail) = norms.as_chunks::<LANES>();
    let (key_lanes, key_tail) = keys.as_chunks_mut::<LANES>();
    for ((values, norms), keys) in value_lanes.iter().zip(norm_lanes).zip(key_lanes) {
        for lane in 0..LANES {
            keys[lane] = (values[lane].abs() * norms[lane]).to_bits();
            greatest[lane] = greatest[lane].max(keys[lane]);
        }
    }
    for ((value, norm), key) in value_tail.iter().zip(norm_tail).zip(key_tail) {
        *key = (value.abs() * norm).to_bits();
        greatest[0] = greatest[0].max(*key);
    }
    greatest.into_iter().max().unwrap_or(0)
}

/// Zeroes every value whose key is at most `threshold`.
pub(super) fn zero_up_to<T: Element>(isa: Isa, values: &mut [T], keys: &[u32], threshold: u32) {
    dispatch(isa, || {
        for (value, &key) in values.iter_mut().zip(keys) {
            *value = if key <= threshold { T::ZERO } else { *value };
        }
    });
}

/// Zeroes every value whose key is below `threshold`, and the first `ties` of those whose key equals it.
pub(super) fn zero_below<T: Element>(
    values: &mut [T],
    keys: &[u32],
    threshold: u32,
    mut ties: usize,
) {
    for (value, &key) in values.iter_mut().zip(keys) {
        let is_tie = key == threshold && ties > 0;
        ties -= usize::from(is_tie);
        if key < threshold || is_tie {
            *value = T::ZERO;
        }
    }
}
