//! Which tokens of a batch see each other.

use std::borrow::Cow;

use candle_core::Result;

/// A run of consecutive tokens of a batch. A token sees those before it in its own segment, and all tokens of the
/// segments that this one continues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// The earlier segment that this one continues; `None` = it begins a sequence.
    pub parent: Option<usize>,
    /// Row of its first token in the batch.
    pub start: usize,
    /// Number of its tokens.
    pub len: usize,
    /// Position of its first token in the sequence: the number of tokens of all segments before it on its path.
    pub position: usize,
}

/// How the rows of a batch are laid end to end.
#[derive(Debug, Clone, Copy)]
pub enum TokenLayout<'a> {
    /// Windows of this many tokens that do not see each other.
    Windows(usize),
    /// Sequences that share prefixes: segments end to end, each after the one it continues.
    Tree(&'a [Segment]),
    /// Last tokens of sequences, at these positions; they see a cache.
    Rows(&'a [usize]),
}

impl<'a> TokenLayout<'a> {
    /// The segments of a batch of `n_tokens`; refuses a layout that does not describe it.
    pub(super) fn segments(&self, n_tokens: usize) -> Result<Cow<'a, [Segment]>> {
        match *self {
            Self::Windows(seq_len) => {
                if seq_len == 0 || !n_tokens.is_multiple_of(seq_len) {
                    candle_core::bail!("{n_tokens} tokens in windows of {seq_len}");
                }
                let starts = (0..n_tokens).step_by(seq_len);
                Ok(starts
                    .map(|start| Segment {
                        parent: None,
                        start,
                        len: seq_len,
                        position: 0,
                    })
                    .collect())
            }
            Self::Tree(segments) => {
                check(segments, n_tokens)?;
                Ok(Cow::Borrowed(segments))
            }
            Self::Rows(_) => candle_core::bail!("rows do not see each other"),
        }
    }

    /// The position of each row of a batch of `n_tokens` in its sequence.
    pub(crate) fn positions(&self, n_tokens: usize) -> Result<Vec<usize>> {
        match *self {
            Self::Rows(positions) if positions.len() == n_tokens => Ok(positions.to_vec()),
            Self::Rows(positions) => {
                candle_core::bail!("{} positions for {n_tokens} tokens", positions.len())
            }
            Self::Windows(_) | Self::Tree(_) => Ok(positions(&self.segments(n_tokens)?)),
        }
    }
}

fn check(segments: &[Segment], n_tokens: usize) -> Result<()> {
    let mut end = 0;
    for (index, segment) in segments.iter().enumerate() {
        let position = match segment.parent {
            None => 0,
            Some(parent) if parent < index => segments[parent].position + segments[parent].len,
            Some(parent) => candle_core::bail!("segment {index} continues segment {parent}"),
        };
        if segment.start != end || segment.position != position {
            candle_core::bail!(
                "segment {index}: {segment:?}, expected row {end} and position {position}"
            );
        }
        end += segment.len;
    }
    if end == n_tokens {
        Ok(())
    } else {
        candle_core::bail!("segments of {end} tokens for a batch of {n_tokens}")
    }
}

/// The segments that `segments[index]` continues, first to last, without itself.
pub(super) fn ancestors(segments: &[Segment], index: usize) -> Vec<Segment> {
    let mut chain = Vec::new();
    let mut parent = segments[index].parent;
    while let Some(index) = parent {
        chain.push(segments[index]);
        parent = segments[index].parent;
    }
    chain.reverse();
    chain
}

/// Position of every row.
pub(super) fn positions(segments: &[Segment]) -> Vec<usize> {
    segments
        .iter()
        .flat_map(|segment| segment.position..segment.position + segment.len)
        .collect()
}
