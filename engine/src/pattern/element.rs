//! Weights in the dtype of their file, widened to f32 a piece at a time.

use half::slice::HalfFloatSliceExt as _;
use half::{bf16, f16};

/// A weight in the dtype of its file.
pub(crate) trait Element: Copy + Send + Sync + 'static {
    /// Calls `f` with the values in f32, in pieces of at most [`PIECE`], in order.
    fn widen(values: &[Self], f: impl FnMut(usize, &[f32]));
}

/// Values that are widened at a time; they stay in the first-level cache.
const PIECE: usize = 2048;

impl Element for f32 {
    fn widen(values: &[Self], mut f: impl FnMut(usize, &[Self])) {
        f(0, values);
    }
}

impl Element for bf16 {
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
    fn widen(values: &[Self], mut f: impl FnMut(usize, &[f32])) {
        let mut wide = [0f32; PIECE];
        for (i, piece) in values.chunks(PIECE).enumerate() {
            piece.convert_to_f32_slice(&mut wide[..piece.len()]);
            f(i * PIECE, &wide[..piece.len()]);
        }
    }
}
