//! The `zeros` lowest keys of one row.
//!
//! The cut is found by selection in a bracket: a sorted sample says between which two keys it almost surely lies;
//! one pass counts the keys below the bracket and collects those inside; the cut is selected among these. When
//! the bracket misses, the selection runs over the whole row.

use super::Scratch;
use super::keys::{Element, NonFiniteScore, scores, zero_below, zero_up_to};
use crate::engine::simd::{Isa, dispatch};

/// Keys in the sample.
const SAMPLE: usize = 256;
/// Sample ranks on either side of the expected one: 3.5 standard deviations of it at a ratio of ½.
const MARGIN: usize = 28;
/// Shorter rows are selected from whole.
const SHORTEST_SAMPLED: usize = 1024;

pub(super) fn prune_row<T: Element>(
    isa: Isa,
    row: &mut [T],
    norms: &[f32],
    zeros: usize,
    scratch: &mut Scratch,
) -> Result<(), NonFiniteScore> {
    scores(isa, row, norms, &mut scratch.keys)?;
    if zeros == 0 {
        return Ok(());
    }
    let cut = find_cut(isa, &scratch.keys, zeros, &mut scratch.candidates);
    if cut.ties == cut.equal {
        zero_up_to(isa, row, &scratch.keys, cut.threshold);
    } else {
        zero_below(row, &scratch.keys, cut.threshold, cut.ties);
    }
    Ok(())
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
    if keys.len() >= SHORTEST_SAMPLED {
        let (low, high) = bracket(keys, zeros);
        let below = collect_bracket(isa, keys, low, high, candidates);
        if below < zeros && zeros <= below + candidates.len() {
            return cut_among(candidates, zeros - below);
        }
    }
    candidates.clear();
    candidates.extend_from_slice(keys);
    cut_among(candidates, zeros)
}

/// The cut after the `zeros` lowest of `candidates`, which holds every key that equals the threshold.
fn cut_among(candidates: &mut [u32], zeros: usize) -> Cut {
    let (lower, &mut threshold, upper) = candidates.select_nth_unstable(zeros - 1);
    let equal_lower = lower.iter().filter(|&&key| key == threshold).count();
    let equal_upper = upper.iter().filter(|&&key| key == threshold).count();
    Cut {
        threshold,
        ties: equal_lower + 1,
        equal: equal_lower + 1 + equal_upper,
    }
}

/// Two keys between which the `zeros`-th lowest probably lies.
fn bracket(keys: &[u32], zeros: usize) -> (u32, u32) {
    let mut sample = [0; SAMPLE];
    for (i, key) in sample.iter_mut().enumerate() {
        *key = keys[i * keys.len() / SAMPLE];
    }
    sample.sort_unstable();
    let expected = zeros * SAMPLE / keys.len();
    let low = expected.checked_sub(MARGIN).map_or(0, |rank| sample[rank]);
    let high = sample.get(expected + MARGIN).copied().unwrap_or(u32::MAX);
    (low, high)
}

/// Collects the keys in `low..=high`; returns how many lie below.
fn collect_bracket(
    isa: Isa,
    keys: &[u32],
    low: u32,
    high: u32,
    candidates: &mut Vec<u32>,
) -> usize {
    candidates.resize(keys.len(), 0);
    let width = high - low;
    let (below, inside) = dispatch(isa, || {
        let mut below = 0u32;
        for &key in keys {
            below += u32::from(key < low);
        }
        // Without a branch: every key is stored, the place moves on only for those inside.
        let mut inside = 0;
        for &key in keys {
            candidates[inside] = key;
            inside += usize::from(key.wrapping_sub(low) <= width);
        }
        (below, inside)
    });
    candidates.truncate(inside);
    below as usize
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
            let zeros = ((n as f64 * share) as usize).clamp(1, n);
            for isa in [Isa::Native, Isa::Portable] {
                prop_assert_eq!(find_cut(isa, &keys, zeros, &mut Vec::new()), by_sorting(&keys, zeros));
            }
        }
    }

    #[test]
    fn a_bracket_that_misses_falls_back_to_the_whole_row() {
        // The sample sees every 16th key of 4096 only; these are all 0, so the bracket is 0..=0.
        let keys: Vec<u32> = (0..4096).map(|i| if i % 16 == 0 { 0 } else { i }).collect();
        assert_eq!(
            find_cut(Isa::Native, &keys, 2000, &mut Vec::new()),
            by_sorting(&keys, 2000)
        );
    }
}
