//! Sequences that share prefixes, laid out so that each distinct prefix is computed once.
//!
//! Sorted sequences make a radix tree: the longest common prefix of neighbours says where paths branch. The segments
//! of the tree lie end to end in depth-first order, without padding, and are a batch of their own.

use super::forward::Batch;
use crate::ops::{Segment, TokenLayout};
use crate::windows::BATCH_TOKENS;

/// A cut between two sequences repeats their common prefix in the next tree. It is put off while that costs more than
/// this share of the tree ...
const REPEATED_SHARE: usize = 16;
/// ... until the tree has this many tokens.
const MAX_TREE_TOKENS: usize = 4 * BATCH_TOKENS;

/// A batch of sequences with shared prefixes.
#[derive(Debug)]
pub(super) struct TokenTree {
    ids: Vec<u32>,
    segments: Vec<Segment>,
    paths: Vec<Path>,
}

/// Where a sequence lies in a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Path {
    /// Number of the sequence among those that the trees were made from.
    pub(super) sequence: usize,
    /// The segment that holds its last token, as the segment's last.
    segment: usize,
}

impl TokenTree {
    /// Trees of about [`BATCH_TOKENS`] tokens (or one long sequence) that hold all of `sequences`, none of them empty.
    ///
    /// The cut depends on the sequences alone, so that results do not depend on the machine.
    pub(super) fn pack(sequences: &[&[u32]]) -> Vec<Self> {
        let mut order: Vec<usize> = (0..sequences.len()).collect();
        order.sort_by_key(|&index| (sequences[index], index));
        let mut trees = Vec::new();
        let (mut begin, mut tokens) = (0, 0);
        for at in 0..order.len() {
            let sequence = sequences[order[at]];
            let shared = match at.checked_sub(1) {
                Some(before) if at > begin => common_prefix(sequences[order[before]], sequence),
                _ => 0,
            };
            let with_it = tokens + sequence.len() - shared;
            let is_cut = at > begin
                && (with_it > MAX_TREE_TOKENS
                    || with_it > BATCH_TOKENS && shared * REPEATED_SHARE <= tokens);
            if is_cut {
                trees.push(Self::new(sequences, &order[begin..at]));
                (begin, tokens) = (at, sequence.len());
            } else {
                tokens = with_it;
            }
        }
        if begin < order.len() {
            trees.push(Self::new(sequences, &order[begin..]));
        }
        trees
    }

    /// The tree of the sequences `order`, which are sorted.
    fn new(sequences: &[&[u32]], order: &[usize]) -> Self {
        let shared: Vec<usize> = order
            .iter()
            .enumerate()
            .map(|(at, &index)| match at {
                0 => 0,
                _ => common_prefix(sequences[order[at - 1]], sequences[index]),
            })
            .collect();
        let branches = branches(&shared);
        let mut tree = Self {
            ids: Vec::new(),
            segments: Vec::new(),
            paths: Vec::new(),
        };
        // Segments from the root to the end of the sequence at hand.
        let mut path: Vec<usize> = Vec::new();
        for ((&index, &shared), branches) in order.iter().zip(&shared).zip(branches) {
            while path.last().is_some_and(|&last| tree.depth(last) > shared) {
                path.pop();
            }
            let sequence = sequences[index];
            let mut position = shared;
            for end in branches.into_iter().chain([sequence.len()]) {
                if end > position {
                    path.push(tree.add(path.last().copied(), position, &sequence[position..end]));
                    position = end;
                }
            }
            tree.paths.extend(path.last().map(|&segment| Path {
                sequence: index,
                segment,
            }));
        }
        tree
    }

    fn add(&mut self, parent: Option<usize>, position: usize, ids: &[u32]) -> usize {
        self.segments.push(Segment {
            parent,
            start: self.ids.len(),
            len: ids.len(),
            position,
        });
        self.ids.extend_from_slice(ids);
        self.segments.len() - 1
    }

    /// Number of tokens from the beginning of a sequence to the end of a segment.
    fn depth(&self, segment: usize) -> usize {
        self.segments[segment].position + self.segments[segment].len
    }

    /// Token ids, row by row.
    pub(super) fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// The tree as a batch.
    pub(super) fn batch(&self) -> Batch<'_> {
        Batch {
            ids: &self.ids,
            layout: TokenLayout::Tree(&self.segments),
        }
    }

    /// Position of every row in its sequences.
    pub(super) fn positions(&self) -> Vec<usize> {
        let segments = self.segments.iter();
        segments
            .flat_map(|segment| segment.position..segment.position + segment.len)
            .collect()
    }

    /// One for each sequence of this tree.
    pub(super) fn paths(&self) -> &[Path] {
        &self.paths
    }

    /// Longest sequence of the tree.
    pub(super) fn max_len(&self) -> usize {
        let depths = (0..self.segments.len()).map(|segment| self.depth(segment));
        depths.max().unwrap_or(0)
    }

    /// Row of the last token of `path`.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a tree has far fewer than 2³² rows"
    )]
    pub(super) fn last_row(&self, path: Path) -> u32 {
        let segment = self.segments[path.segment];
        (segment.start + segment.len - 1) as u32
    }

    /// The segments of `path`, last to first.
    pub(super) fn segments_of(&self, path: Path) -> impl Iterator<Item = Segment> {
        let mut next = Some(path.segment);
        std::iter::from_fn(move || {
            let segment = self.segments[next?];
            next = segment.parent;
            Some(segment)
        })
    }
}

/// As many trees at a time as may exist together.
pub(super) fn waves(trees: &[TokenTree], tokens_per_wave: usize) -> Vec<&[TokenTree]> {
    let mut waves = Vec::new();
    let (mut begin, mut tokens) = (0, 0);
    for (index, tree) in trees.iter().enumerate() {
        if index > begin && tokens + tree.ids().len() > tokens_per_wave {
            waves.push(&trees[begin..index]);
            (begin, tokens) = (index, 0);
        }
        tokens += tree.ids().len();
    }
    if begin < trees.len() {
        waves.push(&trees[begin..]);
    }
    waves
}

fn common_prefix(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// For sorted sequences of which `i` shares `shared[i]` tokens with the one before it: the depths beyond `shared[i]` at
/// which later sequences leave the path of sequence `i`, ascending.
fn branches(shared: &[usize]) -> Vec<Vec<usize>> {
    let mut branches = vec![Vec::new(); shared.len()];
    // Depths at which sequences after the one at hand leave its path, ascending.
    let mut open: Vec<usize> = Vec::new();
    for (of, &shared) in branches.iter_mut().zip(shared).rev() {
        let beyond = open.partition_point(|&depth| depth <= shared);
        *of = open.split_off(beyond);
        if open.last() != Some(&shared) {
            open.push(shared);
        }
    }
    branches
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack(sequences: &[&[u32]]) -> Vec<TokenTree> {
        TokenTree::pack(sequences)
    }

    /// The tokens on a path, first to last.
    fn tokens(tree: &TokenTree, path: Path) -> Vec<u32> {
        let mut segments: Vec<Segment> = tree.segments_of(path).collect();
        segments.reverse();
        let rows = segments.iter().flat_map(|s| s.start..s.start + s.len);
        rows.map(|row| tree.ids()[row]).collect()
    }

    fn check_whole(sequences: &[&[u32]], trees: &[TokenTree]) {
        let mut seen = vec![0; sequences.len()];
        for tree in trees {
            for &path in tree.paths() {
                assert_eq!(tokens(tree, path), sequences[path.sequence]);
                seen[path.sequence] += 1;
            }
        }
        assert!(seen.iter().all(|&n| n == 1), "{seen:?}");
    }

    #[test]
    fn each_distinct_prefix_is_there_once() {
        let sequences: [&[u32]; 7] = [
            &[1, 2, 3, 9],
            &[5],
            &[1, 2, 3, 4, 5],
            &[1, 2],
            &[1, 2, 3, 4, 6, 7],
            &[5],
            &[1, 2, 8],
        ];
        let trees = pack(&sequences);
        check_whole(&sequences, &trees);
        // 1 2 | 3 | 4 | 5; 6 7; 9; 8; 5
        assert_eq!(trees[0].ids(), [1, 2, 3, 4, 5, 6, 7, 9, 8, 5]);
        assert_eq!(trees.len(), 1);
        assert_eq!(trees[0].max_len(), 6);
    }

    #[test]
    fn any_set_of_sequences_is_whole_and_has_no_prefix_twice() {
        let mut state = 1u32;
        let mut next = |n: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) % n
        };
        for _ in 0..200 {
            let n = 1 + next(30);
            let sequences: Vec<Vec<u32>> = (0..n)
                .map(|_| (0..=next(8)).map(|_| next(3)).collect())
                .collect();
            let sequences: Vec<&[u32]> = sequences.iter().map(Vec::as_slice).collect();
            let trees = pack(&sequences);
            check_whole(&sequences, &trees);
            let prefixes: std::collections::BTreeSet<&[u32]> = sequences
                .iter()
                .flat_map(|s| (1..=s.len()).map(move |end| &s[..end]))
                .collect();
            assert_eq!(trees[0].ids().len(), prefixes.len());
        }
    }

    #[test]
    fn trees_are_cut_where_little_is_repeated_and_stay_bounded() {
        // 100 documents of 150 tokens with two endings each: a cut within a document would repeat 150 tokens.
        let documents = (0..100_u32).flat_map(|document| {
            (0..2).map(move |ending| {
                let context = (0..150).map(move |i| document * 1000 + i);
                context.chain([900_000 + ending; 10]).collect::<Vec<_>>()
            })
        });
        let sequences: Vec<Vec<u32>> = documents.collect();
        let sequences: Vec<&[u32]> = sequences.iter().map(Vec::as_slice).collect();
        let trees = pack(&sequences);
        check_whole(&sequences, &trees);
        let tokens: Vec<usize> = trees.iter().map(|tree| tree.ids().len()).collect();
        assert_eq!(tokens.iter().sum::<usize>(), 100 * 170, "{tokens:?}");
        assert!(
            tokens.iter().all(|&n| n <= BATCH_TOKENS + 170),
            "{tokens:?}"
        );

        // A prefix that all share is repeated rarely, but repeated: no tree grows without bound.
        let shared: Vec<Vec<u32>> = (0..1000)
            .map(|i| {
                (0..700)
                    .chain((0..30).map(|j| 1000 + 100 * i + j))
                    .collect()
            })
            .collect();
        let shared: Vec<&[u32]> = shared.iter().map(Vec::as_slice).collect();
        let trees = pack(&shared);
        check_whole(&shared, &trees);
        let tokens: Vec<usize> = trees.iter().map(|tree| tree.ids().len()).collect();
        assert!(tokens.iter().all(|&n| n <= MAX_TREE_TOKENS), "{tokens:?}");
        assert!(tokens.iter().sum::<usize>() < 36_000, "{tokens:?}");
    }
}
