//! Which weights of a block are zero, one bit each: all that pruning changes, at a sixteenth of the block's size or less.
//!
//! It stands for the pruned tensors as long as a method only makes weights zero. With the source's weights at hand they
//! come back bit by bit.

use super::checkpoint::Weights;

/// The bits of a block's linears, in the order they were added; each linear begins with a new byte.
#[derive(Debug, Default)]
pub(super) struct Zeros(Vec<u8>);

impl Zeros {
    /// Adds a pruned linear.
    pub(super) fn add(&mut self, weights: &Weights) {
        match weights {
            Weights::F32(values) => self.add_bits(values, |v| v.to_bits() == 0),
            Weights::F16(values) => self.add_bits(values, |v| v.to_bits() == 0),
            Weights::Bf16(values) => self.add_bits(values, |v| v.to_bits() == 0),
        }
    }

    /// A kept −0 is not a zero here: its bits differ, and it has to stay what it is.
    fn add_bits<T: Copy>(&mut self, values: &[T], is_zero: impl Fn(T) -> bool) {
        let bytes = values.chunks(8).map(|chunk| {
            let bits = chunk.iter().enumerate();
            bits.fold(0, |byte, (at, &value)| {
                byte | (u8::from(is_zero(value)) << at)
            })
        });
        self.0.extend(bytes);
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Makes the weights zero whose bit is set; `bits` are then those of the linears that follow. `None` when there are too
/// few.
pub(super) fn apply<'b>(bits: &'b [u8], weights: &mut Weights) -> Option<&'b [u8]> {
    fn set<T>(bits: &[u8], values: &mut [T], zero: impl Fn() -> T) {
        for (chunk, byte) in values.chunks_mut(8).zip(bits) {
            for (at, value) in chunk.iter_mut().enumerate() {
                if byte & (1 << at) != 0 {
                    *value = zero();
                }
            }
        }
    }
    let count = match weights {
        Weights::F32(values) => values.len(),
        Weights::F16(values) => values.len(),
        Weights::Bf16(values) => values.len(),
    };
    let (own, rest) = bits.split_at_checked(count.div_ceil(8))?;
    match weights {
        Weights::F32(values) => set(own, values, || 0.0),
        Weights::F16(values) => set(own, values, || half::f16::ZERO),
        Weights::Bf16(values) => set(own, values, || half::bf16::ZERO),
    }
    Some(rest)
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::*;

    #[test]
    fn the_pruned_weights_come_back_bit_by_bit() {
        let source = [1.0, -2.0, -0.0, 0.0, f32::MIN_POSITIVE, 3.0, 4.0, 5.0, 6.0];
        let mut pruned = source;
        pruned[1] = 0.0;
        pruned[8] = 0.0;
        let narrow = |values: &[f32]| {
            Weights::Bf16(values.iter().map(|&value| bf16::from_f32(value)).collect())
        };
        let mut zeros = Zeros::default();
        zeros.add(&Weights::F32(pruned.to_vec()));
        zeros.add(&narrow(&pruned));
        assert_eq!(zeros.as_bytes().len(), 4);

        let mut first = Weights::F32(source.to_vec());
        let rest = apply(zeros.as_bytes(), &mut first).unwrap();
        assert_eq!(first.as_bytes(), Weights::F32(pruned.to_vec()).as_bytes());
        let mut second = narrow(&source);
        assert_eq!(apply(rest, &mut second), Some(&[][..]));
        assert_eq!(second.as_bytes(), narrow(&pruned).as_bytes());
        assert_eq!(apply(&[0], &mut second), None, "too few");
    }
}
