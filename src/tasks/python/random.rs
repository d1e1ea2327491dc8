//! The part of Python's `random` that the paper's code draws its calibration windows with, and the harness its examples.

use rand_mt::Mt;

/// A generator that gives the numbers of Python's `random.Random(seed)`.
pub(crate) struct PythonRandom(Mt);

impl PythonRandom {
    /// As `random.seed(seed)` for an integer: Mersenne Twister initialised by the array of its 32-bit digits.
    pub(crate) fn seed(seed: u64) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "the two halves are meant")]
        let (low, high) = (seed as u32, (seed >> 32) as u32);
        let key: &[u32] = if high == 0 { &[low] } else { &[low, high] };
        Self(Mt::new_with_key(key.iter().copied()))
    }

    /// As `random.randint(0, last)`: takes as many bits as `last + 1` has, again until the number is small enough.
    pub(crate) fn randint(&mut self, last: usize) -> usize {
        let bound = last as u64 + 1;
        let bits = 64 - bound.leading_zeros();
        loop {
            let number = self.getrandbits(bits);
            if number < bound {
                return usize::try_from(number).unwrap_or(last);
            }
        }
    }

    /// As `random.sample(range(n), k)`, for `k <= n`.
    pub(crate) fn sample(&mut self, n: usize, k: usize) -> Vec<usize> {
        // A list as large as the set that would remember the drawn ones is the cheaper way: Python's rule.
        let mut small = 21;
        while k > 5 && small - 21 < 3 * k {
            small = 21 + 4 * (small - 21).max(1);
        }
        if n <= small {
            let mut pool: Vec<usize> = (0..n).collect();
            return (0..k)
                .map(|_| {
                    let drawn = self.randint(pool.len() - 1);
                    pool.swap_remove(drawn)
                })
                .collect();
        }
        let mut drawn = Vec::with_capacity(k);
        while drawn.len() < k {
            let next = self.randint(n - 1);
            if !drawn.contains(&next) {
                drawn.push(next);
            }
        }
        drawn
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

    #[test]
    fn samples_are_those_of_python() {
        // random.seed(1234); [random.sample(range(n), k) for n, k in …]
        let mut random = PythonRandom::seed(1234);
        let mut sample = |n, k| random.sample(n, k);
        assert_eq!(sample(7473, 5), [6374, 3610, 957, 61, 742]);
        assert_eq!(sample(7473, 5), [7462, 6610, 4769, 286, 5501]);
        assert_eq!(sample(20, 5), [2, 3, 11, 7, 0]);
        assert_eq!(sample(21, 5), [0, 20, 11, 15, 14]);
        assert_eq!(sample(22, 5), [4, 2, 5, 3, 0]);
        assert_eq!(sample(85, 6), [64, 62, 31, 8, 69, 59]);
        assert_eq!(sample(86, 6), [8, 76, 11, 65, 74, 5]);
        assert_eq!(sample(85, 8), [34, 71, 8, 38, 61, 45, 84, 31]);
    }
}
