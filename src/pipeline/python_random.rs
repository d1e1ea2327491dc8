//! The part of Python's `random` that the paper's code draws its calibration windows with.

use rand_mt::Mt;

/// A generator that gives the numbers of Python's `random.Random(seed)`.
pub(super) struct PythonRandom(Mt);

impl PythonRandom {
    /// As `random.seed(seed)` for an integer: Mersenne Twister initialised by the array of its 32-bit digits.
    pub(super) fn seed(seed: u64) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "the two halves are meant")]
        let (low, high) = (seed as u32, (seed >> 32) as u32);
        let key: &[u32] = if high == 0 { &[low] } else { &[low, high] };
        Self(Mt::new_with_key(key.iter().copied()))
    }

    /// As `random.randint(0, last)`: takes as many bits as `last + 1` has, again until the number is small enough.
    pub(super) fn randint(&mut self, last: usize) -> usize {
        let bound = last as u64 + 1;
        let bits = 64 - bound.leading_zeros();
        loop {
            let number = self.getrandbits(bits);
            if number < bound {
                return usize::try_from(number).unwrap_or(last);
            }
        }
    }

    /// As `random.getrandbits(bits)` for 1 to 64 bits: the low 32 are drawn first.
    fn getrandbits(&mut self, bits: u32) -> u64 {
        let mut draw = |bits: u32| u64::from(self.0.next_u32() >> (32 - bits));
        if bits <= 32 {
            draw(bits)
        } else {
            draw(32) | draw(bits - 32) << 32
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_those_of_python() {
        // random.seed(0); [random.randint(0, 999) for _ in range(5)]
        let mut random = PythonRandom::seed(0);
        assert_eq!(
            [(); 5].map(|()| random.randint(999)),
            [864, 394, 776, 911, 430]
        );
        // random.seed(2**40 + 7); [random.randint(0, 2**33) for _ in range(3)]
        let mut random = PythonRandom::seed((1 << 40) + 7);
        assert_eq!(
            [(); 3].map(|()| random.randint(1 << 33)),
            [6_339_045_738, 7_386_341_067, 5_983_660_769]
        );
    }
}
