//! The part that every fused attention shares: some consecutive queries on the keys and values before them.

use rayon::prelude::*;

use super::AttentionShape;
use super::rotate::rotate_row;
use crate::ops::activation::soft_cap_values;
use crate::ops::matmul::{View, times};
use crate::simd::{LANES, exp, max, vectorized};

/// Scores of a chunk of queries that stay in the second-level cache.
const SCORES_PER_CHUNK: usize = 1 << 16;

/// Queries that follow each other, and what they may see.
#[derive(Clone, Copy)]
pub(super) struct Span<'a> {
    /// `[n, heads · head_dim]`, not turned yet.
    pub(super) q: &'a [f32],
    /// Position of the first query.
    pub(super) position: usize,
    /// Turned keys `[_, kv_heads · head_dim]` of the positions from `first` on, at least to the last query's.
    pub(super) k: &'a [f32],
    /// Values of the same positions.
    pub(super) v: &'a [f32],
    /// Position of the first key; no later than the first that the first query sees.
    pub(super) first: usize,
}

/// Room that is reused.
#[derive(Default)]
pub(super) struct AttentionScratch {
    q: Vec<f32>,
    scores: Vec<f32>,
    scale: Vec<f32>,
}

impl AttentionShape<'_> {
    /// Works on the queries of `span` in chunks, in parallel. `out`: `[n, heads · head_dim]`.
    pub(super) fn attend(&self, span: Span<'_>, out: &mut [f32], scratch: &mut AttentionScratch) {
        let width = self.width();
        let keys = span.position + out.len() / width;
        // Depends on the shape alone, so that results do not depend on the machine.
        let chunk = (SCORES_PER_CHUNK / keys).clamp(32, 128);
        if out.len() <= chunk * width {
            return self.attend_chunk(span, out, scratch);
        }
        out.par_chunks_mut(chunk * width)
            .zip(span.q.par_chunks(chunk * width))
            .enumerate()
            .for_each_init(AttentionScratch::default, |scratch, (index, (out, q))| {
                let position = span.position + index * chunk;
                self.attend_chunk(
                    Span {
                        q,
                        position,
                        ..span
                    },
                    out,
                    scratch,
                );
            });
    }

    fn attend_chunk(&self, span: Span<'_>, out: &mut [f32], scratch: &mut AttentionScratch) {
        let (width, kv_width) = (self.width(), self.kv_width());
        let queries = span.q.len() / width;
        let (first, end) = (self.first_key(span.position), span.position + queries);
        let keys = end - first;
        scratch.q.resize(span.q.len(), 0.0);
        scratch.scores.resize(queries * keys, 0.0);
        scratch.scale.resize(queries, 0.0);
        vectorized(|| {
            for (row, (x, y)) in span
                .q
                .chunks_exact(width)
                .zip(scratch.q.chunks_exact_mut(width))
                .enumerate()
            {
                rotate_row(self, x, y, span.position + row);
            }
        });
        for head in 0..self.heads {
            let kv_offset = (first - span.first) * kv_width
                + head / (self.heads / self.kv_heads) * self.head_dim;
            let of_keys = |values| View::rows(values, keys, self.head_dim, kv_width);
            let (k, v) = (&span.k[kv_offset..], &span.v[kv_offset..]);
            let q = &scratch.q[head * self.head_dim..];
            let q = View::rows(q, queries, self.head_dim, width);
            let k = of_keys(k).transposed();
            times(&mut scratch.scores, keys, q, k, self.scale);
            for (row, (scores, scale)) in scratch
                .scores
                .chunks_exact_mut(keys)
                .zip(&mut scratch.scale)
                .enumerate()
            {
                let position = span.position + row;
                let seen = self.first_key(position) - first..position + 1 - first;
                if let Some(cap) = self.soft_cap {
                    vectorized(|| soft_cap_values(&mut scores[seen.clone()], cap));
                }
                *scale = 1.0 / vectorized(|| exponentials(scores, seen));
            }
            let weights = View::rows(&scratch.scores, queries, keys, keys);
            let out = &mut out[head * self.head_dim..];
            times(out, width, weights, of_keys(v), 1.0);
            for (row, scale) in out.chunks_mut(width).zip(&scratch.scale) {
                row[..self.head_dim].iter_mut().for_each(|y| *y *= scale);
            }
        }
    }
}

/// Replaces `scores[seen]` by `exp(score − max)`, everything else by 0; returns the sum.
#[inline(always)]
fn exponentials(scores: &mut [f32], seen: std::ops::Range<usize>) -> f32 {
    let end = seen.end;
    scores[..seen.start].fill(0.0);
    scores[end..].fill(0.0);
    let seen = &mut scores[seen];
    let top = max(seen);
    let mut lanes = [0f32; LANES];
    for chunk in seen.chunks_mut(LANES) {
        for (lane, score) in lanes.iter_mut().zip(chunk) {
            *score = exp(*score - top);
            *lane += *score;
        }
    }
    lanes.iter().sum()
}
