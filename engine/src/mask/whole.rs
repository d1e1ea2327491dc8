//! The lowest keys of a whole matrix, for magnitude pruning.
//!
//! One parallel pass counts the keys by their upper half; that tells in which of the 65,536 ranges the cut lies.
//! The keys of that range alone are collected and selected from.

use rayon::prelude::*;

use super::keys::{Element, NonFiniteScore, scores, zero_below};
use crate::simd::Isa;

/// Values of one task.
const PIECE: usize = 1 << 16;
const RANGES: usize = 1 << 16;

/// Zeroes the `zeros` values of least magnitude; of equal ones, those that stand first.
pub(super) fn prune_whole<T: Element>(
    isa: Isa,
    values: &mut [T],
    zeros: usize,
) -> Result<(), NonFiniteScore> {
    let ones = vec![1.0; PIECE];
    let keys_of = |piece: &[T], keys: &mut Vec<u32>| scores(isa, piece, &ones[..piece.len()], keys);
    let counts = values
        .par_chunks(PIECE)
        .try_fold(Counts::default, |mut counts, piece| {
            keys_of(piece, &mut counts.keys)?;
            counts
                .keys
                .iter()
                .for_each(|key| counts.of_range[(key >> 16) as usize] += 1);
            Ok(counts)
        })
        .try_reduce(Counts::default, |mut a, b| {
            a.of_range
                .iter_mut()
                .zip(b.of_range)
                .for_each(|(a, b)| *a += b);
            Ok(a)
        })?
        .of_range;
    if zeros == 0 {
        return Ok(());
    }
    let (range, below) = range_of_cut(&counts, zeros);
    let mut candidates: Vec<u32> = values
        .par_chunks(PIECE)
        .map(|piece| {
            let mut keys = Vec::new();
            keys_of(piece, &mut keys).map(|()| {
                keys.into_iter()
                    .filter(|key| (key >> 16) as usize == range)
                    .collect::<Vec<_>>()
            })
        })
        .collect::<Result<Vec<_>, _>>()?
        .concat();
    let (lower, &mut threshold, _) = candidates.select_nth_unstable(zeros - below - 1);
    let ties = zeros - below - lower.iter().filter(|&&key| key < threshold).count();
    apply(values, threshold, ties, keys_of)
}

/// How many keys lie in each range, and a buffer.
struct Counts {
    of_range: Vec<u32>,
    keys: Vec<u32>,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            of_range: vec![0; RANGES],
            keys: Vec::new(),
        }
    }
}

/// The range that holds the `zeros`-th lowest key, and how many keys lie below it.
fn range_of_cut(counts: &[u32], zeros: usize) -> (usize, usize) {
    let mut below = 0;
    for (range, &count) in counts.iter().enumerate() {
        if below + count as usize >= zeros {
            return (range, below);
        }
        below += count as usize;
    }
    unreachable!("there are more than {below} values, {zeros} of them become zero")
}

fn apply<T: Element>(
    values: &mut [T],
    threshold: u32,
    ties: usize,
    keys_of: impl Fn(&[T], &mut Vec<u32>) -> Result<(), NonFiniteScore> + Sync,
) -> Result<(), NonFiniteScore> {
    let ties_per_piece: Vec<usize> = values
        .par_chunks(PIECE)
        .map_init(Vec::new, |keys, piece| {
            keys_of(piece, keys)?;
            Ok(keys.iter().filter(|&&key| key == threshold).count())
        })
        .collect::<Result<_, _>>()?;
    let mut left = ties;
    let quotas: Vec<usize> = ties_per_piece
        .into_iter()
        .map(|n| {
            let quota = n.min(left);
            left -= quota;
            quota
        })
        .collect();
    values
        .par_chunks_mut(PIECE)
        .zip(quotas)
        .try_for_each_init(Vec::new, |keys, (piece, quota)| {
            keys_of(piece, keys)?;
            zero_below(piece, keys, threshold, quota);
            Ok(())
        })
}
