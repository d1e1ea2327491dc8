//! Which weights of one linear become zero: what a method chooses and a pruned copy is made of.

use half::{bf16, f16};
use rayon::prelude::*;

use crate::checkpoint::Weights;
use crate::simd::vectorized;

/// One bit per weight of `[d_out, d_in]`, set where it becomes zero; each row begins with a new word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask {
    d_in: usize,
    words: Vec<u64>,
}

impl Mask {
    /// No weight becomes zero.
    pub fn none(d_out: usize, d_in: usize) -> Self {
        Self {
            d_in,
            words: vec![0; d_out * d_in.div_ceil(64)],
        }
    }

    /// Of weights as a mask leaves them: every `+0` becomes zero, which changes no bit of those that were so before.
    pub(crate) fn of_zeros(weights: &Weights, d_out: usize, d_in: usize) -> Self {
        let mut mask = Self::none(d_out, d_in);
        match weights {
            Weights::F32(values) => mask.set_where(values, |value| value.to_bits() == 0),
            Weights::F16(values) => mask.set_where(values, |value| value.to_bits() == 0),
            Weights::Bf16(values) => mask.set_where(values, |value| value.to_bits() == 0),
        }
        mask
    }

    fn set_where<T: Copy>(&mut self, values: &[T], is_zero: impl Fn(T) -> bool) {
        let words_per_row = self.words_per_row();
        let rows = self.words.chunks_exact_mut(words_per_row);
        for (words, row) in rows.zip(values.chunks_exact(self.d_in)) {
            for (word, values) in words.iter_mut().zip(row.chunks(64)) {
                let bits = values.iter().enumerate();
                *word = bits.fold(0, |word, (i, &value)| word | u64::from(is_zero(value)) << i);
            }
        }
    }

    /// Bytes of a mask of this shape.
    pub(crate) fn bytes_of(d_out: usize, d_in: usize) -> u64 {
        (d_out * d_in.div_ceil(64) * size_of::<u64>()) as u64
    }

    /// Whether a weight becomes zero.
    pub fn contains(&self, row: usize, column: usize) -> bool {
        let word = self.words[row * self.words_per_row() + column / 64];
        word >> (column % 64) & 1 == 1
    }

    /// How many weights become zero.
    pub fn count(&self) -> u64 {
        self.words
            .iter()
            .map(|word| u64::from(word.count_ones()))
            .sum()
    }

    /// How many weights become zero in one of the two and not in the other.
    pub(crate) fn differing(&self, other: &Self) -> u64 {
        let pairs = self.words.iter().zip(&other.words);
        pairs.map(|(a, b)| u64::from((a ^ b).count_ones())).sum()
    }

    /// 0 where a weight becomes zero and 1 elsewhere, of `rows` rows from `first` on.
    pub(crate) fn kept(&self, first: usize, rows: usize) -> Vec<f32> {
        let words = self.words.chunks_exact(self.words_per_row());
        let words = words.skip(first).take(rows);
        let bits = words.flat_map(|words| (0..self.d_in).map(|i| words[i / 64] >> (i % 64) & 1));
        bits.map(|bit| if bit == 1 { 0.0 } else { 1.0 }).collect()
    }

    /// Makes the chosen weights zero; the others keep their bits.
    pub fn apply(&self, weights: &mut Weights) {
        match weights {
            Weights::F32(values) => self.apply_to(values),
            Weights::F16(values) => self.apply_to(values),
            Weights::Bf16(values) => self.apply_to(values),
        }
    }

    fn apply_to<T: Zero>(&self, values: &mut [T]) {
        let words_per_row = self.words_per_row();
        values
            .par_chunks_mut(self.d_in)
            .zip(self.words.par_chunks(words_per_row))
            .with_min_len(WEIGHTS_PER_TASK.div_ceil(self.d_in))
            .for_each(|(row, words)| vectorized(|| zero_row(row, words)));
    }

    pub(crate) fn words_per_row(&self) -> usize {
        self.d_in.div_ceil(64)
    }

    /// The words of every `rows` rows.
    pub(crate) fn par_rows_mut(
        &mut self,
        rows: usize,
    ) -> impl IndexedParallelIterator<Item = &mut [u64]> {
        let words = rows * self.words_per_row();
        self.words.par_chunks_mut(words)
    }

    /// The bits, as they are stored.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        bytemuck::cast_slice(&self.words)
    }

    /// The same bytes, to be read into.
    pub(crate) fn as_bytes_mut(&mut self) -> &mut [u8] {
        bytemuck::cast_slice_mut(&mut self.words)
    }
}

/// Weights that are worth a task of their own.
const WEIGHTS_PER_TASK: usize = 1 << 16;

#[inline(always)]
fn zero_row<T: Zero>(row: &mut [T], words: &[u64]) {
    for (values, &word) in row.chunks_mut(64).zip(words) {
        for (i, value) in values.iter_mut().enumerate() {
            *value = if word >> i & 1 == 1 { T::ZERO } else { *value };
        }
    }
}

trait Zero: Copy + Send {
    const ZERO: Self;
}

impl Zero for f32 {
    const ZERO: Self = 0.0;
}

impl Zero for f16 {
    const ZERO: Self = Self::ZERO;
}

impl Zero for bf16 {
    const ZERO: Self = Self::ZERO;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_found_in_masked_weights_makes_the_same_weights_again() {
        let (d_out, d_in) = (3, 70);
        let value = |i: usize| match i % 5 {
            0 => 0.0,
            1 => -0.0,
            _ => i as f32,
        };
        let dense: Vec<f32> = (0..d_out * d_in).map(value).collect();
        let narrow = dense.iter().map(|&value| bf16::from_f32(value)).collect();
        let half = dense.iter().map(|&value| f16::from_f32(value)).collect();
        for dense in [
            Weights::F32(dense),
            Weights::F16(half),
            Weights::Bf16(narrow),
        ] {
            let mut mask = Mask::none(d_out, d_in);
            mask.words = vec![0x0123_4567_89ab_cdef, 0x2a, 0, 0x15, u64::MAX, 0];
            let (mut masked, mut again) = (dense.clone(), dense);
            mask.apply(&mut masked);
            Mask::of_zeros(&masked, d_out, d_in).apply(&mut again);
            assert!(again.as_bytes() == masked.as_bytes());
        }
    }
}
