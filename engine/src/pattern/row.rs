//! The `zeros` lowest keys of one row.
//!
//! The cut is found by counting: between two keys that hold it, a third is tried where interpolation expects it, and
//! one pass counts the keys below. A pass over a row in cache costs a sixteenth of an instruction per key, so some eight
//! of them are cheaper than moving keys about. The few keys that are left between the bounds are collected and selected
//! from. A sorted sample gives the first bounds.

use super::choose::Scratch;
use super::keys::{mark_below, mark_up_to};
use crate::simd::{Isa, dispatch};

/// Keys in the sample.
const SAMPLE: usize = 64;
/// Sample ranks on either side of the expected one: 2.5 standard deviations of it at a ratio of ½.
const MARGIN: usize = 10;
/// So few keys between the bounds are collected.
const FEW: usize = 32;
/// Passes after which the bounds are taken as they are.
const MAX_PASSES: usize = 24;
/// Keys that are looked at together when the last ones are collected.
const PIECE: usize = 64;

/// Marks the `zeros` lowest of the keys in `scratch`.
pub(super) fn mark(isa: Isa, zeros: usize, scratch: &mut Scratch, words: &mut [u64]) {
    if zeros == 0 {
        return;
    }
    let Scratch { keys, candidates } = scratch;
    let cut = find_cut(isa, keys, zeros, candidates);
    if cut.ties == cut.equal {
        mark_up_to(isa, keys, cut.threshold, words);
    } else {
        mark_below(isa, keys, cut.threshold, cut.ties, words);
    }
}

/// Where the lowest keys end.
#[derive(Debug, PartialEq, Eq)]
struct Cut {
    /// The greatest key among the lowest.
    threshold: u32,
    /// How many of the keys that equal it are among the lowest.
    ties: usize,
    /// How many there are.
    equal: usize,
}

/// The cut after the `zeros ≥ 1` lowest of `keys`.
fn find_cut(isa: Isa, keys: &[u32], zeros: usize, candidates: &mut Vec<u32>) -> Cut {
    let bounds = narrow(isa, keys, zeros);
    candidates.clear();
    dispatch(isa, || {
        for piece in keys.chunks(PIECE) {
            // Most pieces hold none, which is seen without a branch per key.
            let any = piece.iter().fold(false, |any, &key| any | bounds.hold(key));
            if any {
                candidates.extend(piece.iter().copied().filter(|&key| bounds.hold(key)));
            }
        }
    });
    let (lower, &mut threshold, upper) =
        candidates.select_nth_unstable(zeros - bounds.below_low - 1);
    let equal_lower = lower.iter().filter(|&&key| key == threshold).count();
    let equal_upper = upper.iter().filter(|&&key| key == threshold).count();
    Cut {
        threshold,
        ties: equal_lower + 1,
        equal: equal_lower + 1 + equal_upper,
    }
}

/// The cut lies in `low..high`.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    low: u32,
    high: u32,
    /// Keys below `low`; fewer than `zeros`.
    below_low: usize,
    /// Keys below `high`; at least `zeros`.
    below_high: usize,
}

impl Bounds {
    #[inline(always)]
    fn hold(&self, key: u32) -> bool {
        key.wrapping_sub(self.low) < self.high - self.low
    }

    /// Takes `key` as one of the bounds.
    fn tighten(&mut self, key: u32, below: usize, zeros: usize) {
        if below < zeros {
            (self.low, self.below_low) = (key, below);
        } else {
            (self.high, self.below_high) = (key, below);
        }
    }

    /// Where the cut is expected if keys lie evenly between the bounds; every third time the middle, in case they do not.
    #[expect(clippy::cast_possible_truncation, reason = "it lies between two keys")]
    fn guess(&self, zeros: usize, pass: usize) -> u32 {
        let width = u64::from(self.high - self.low);
        let step = if pass % 3 == 2 {
            width / 2
        } else {
            width * (zeros - self.below_low) as u64 / (self.below_high - self.below_low) as u64
        };
        self.low + step.clamp(1, width - 1) as u32
    }
}

fn narrow(isa: Isa, keys: &[u32], zeros: usize) -> Bounds {
    let count_below = |bound: u32| {
        dispatch(isa, || {
            keys.iter().map(|&key| u32::from(key < bound)).sum::<u32>()
        }) as usize
    };
    let mut bounds = Bounds {
        low: 0,
        high: u32::MAX,
        below_low: 0,
        below_high: keys.len(),
    };
    if keys.len() <= FEW {
        return bounds;
    }
    for key in sampled(keys, zeros).into_iter().filter(|&key| key > 0) {
        if bounds.hold(key) {
            bounds.tighten(key, count_below(key), zeros);
        }
    }
    for pass in 0..MAX_PASSES {
        if bounds.below_high - bounds.below_low <= FEW || bounds.high - bounds.low == 1 {
            break;
        }
        let key = bounds.guess(zeros, pass);
        bounds.tighten(key, count_below(key), zeros);
    }
    bounds
}

/// Two keys of the row between which the `zeros`-th lowest probably lies.
fn sampled(keys: &[u32], zeros: usize) -> [u32; 2] {
    let mut sample = [0; SAMPLE];
    for (i, key) in sample.iter_mut().enumerate() {
        *key = keys[i * keys.len() / SAMPLE];
    }
    sample.sort_unstable();
    let expected = zeros * SAMPLE / keys.len();
    [
        sample[expected.saturating_sub(MARGIN)],
        sample[(expected + MARGIN).min(SAMPLE - 1)],
    ]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn by_sorting(keys: &[u32], zeros: usize) -> Cut {
        let mut sorted = keys.to_vec();
        sorted.sort_unstable();
        let threshold = sorted[zeros - 1];
        let below = sorted.iter().filter(|&&k| k < threshold).count();
        Cut {
            threshold,
            ties: zeros - below,
            equal: sorted.iter().filter(|&&k| k == threshold).count(),
        }
    }

    proptest! {
        #[test]
        fn the_cut_is_that_of_sorting(n in 1usize..4000, spread in 1u32..100_000, seed: u32, share in 0.0f64..1.0) {
            let mut state = seed | 1;
            let keys: Vec<u32> = (0..n).map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) % spread
            }).collect();
            let zeros = crate::pattern::choose::zeros_of(n, share).clamp(1, n);
            for isa in [Isa::Native, Isa::Portable] {
                prop_assert_eq!(find_cut(isa, &keys, zeros, &mut Vec::new()), by_sorting(&keys, zeros));
            }
        }
    }

    #[test]
    fn a_sample_that_misleads_costs_passes_and_not_the_result() {
        // The sample sees every 64th key of 4096 only; these are all 0.
        let keys: Vec<u32> = (0..4096).map(|i| if i % 64 == 0 { 0 } else { i }).collect();
        for zeros in [1, 64, 65, 2000, 4096] {
            assert_eq!(
                find_cut(Isa::Native, &keys, zeros, &mut Vec::new()),
                by_sorting(&keys, zeros)
            );
        }
    }

    #[test]
    fn keys_that_are_all_equal_are_all_ties() {
        for key in [0, 1, 7, 0x7f7f_ffff] {
            let keys = vec![key; 5000];
            assert_eq!(
                find_cut(Isa::Native, &keys, 2500, &mut Vec::new()),
                by_sorting(&keys, 2500)
            );
        }
    }
}
