//! Attention within a batch: each segment on its own keys and those of the segments that it continues.

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::kernel::{AttentionScratch, Span};
use super::layout::{Segment, TokenLayout, ancestors, positions};
use super::rotate::{self, rotate_rows};
use super::{AttentionShape, composed_span};
use crate::ops::{contiguous, on_cpu};

/// - `q`: `[n_tokens, heads · head_dim]`, f32
/// - `k`, `v`: `[n_tokens, kv_heads · head_dim]`, f32
///
/// Returns `[n_tokens, heads · head_dim]`.
pub fn causal_attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    shape: &AttentionShape<'_>,
    layout: TokenLayout<'_>,
) -> Result<Tensor> {
    let segments = layout.segments(q.dim(0)?)?;
    let longest = segments.iter().map(|s| s.position + s.len).max();
    if !shape.reaches(longest.unwrap_or(0)) {
        candle_core::bail!("a sequence of {longest:?} tokens is longer than the rotary table");
    }
    let attention = TreeAttention {
        shape,
        segments: &segments,
    };
    if on_cpu(q) {
        q.apply_op3_no_bwd(k, v, &attention)
    } else {
        attention.composed(q, k, v)
    }
}

pub(super) struct TreeAttention<'a> {
    pub(super) shape: &'a AttentionShape<'a>,
    pub(super) segments: &'a [Segment],
}

impl TreeAttention<'_> {
    /// The segments that `index` continues, itself included, as ranges of rows; without what a sliding window hides
    /// from all of its queries. Also the position of the first row.
    fn visible_rows(&self, index: usize) -> (Vec<std::ops::Range<usize>>, usize) {
        let own = self.segments[index];
        let first = self.shape.first_key(own.position);
        let mut chain = ancestors(self.segments, index);
        chain.push(own);
        let rows = chain.iter().filter_map(|segment| {
            let hidden = first.saturating_sub(segment.position);
            (hidden < segment.len).then(|| segment.start + hidden..segment.start + segment.len)
        });
        (rows.collect(), first)
    }

    fn attend_segment(
        &self,
        index: usize,
        tensors: &Tensors<'_>,
        out: &mut [f32],
        scratch: &mut SegmentScratch,
    ) {
        let (segment, width) = (self.segments[index], self.shape.width());
        let kv_width = self.shape.kv_width();
        let of_rows =
            |values| of_rows(values, kv_width, segment.start..segment.start + segment.len);
        let (k, v, first) = if segment.parent.is_none() {
            (of_rows(tensors.k), of_rows(tensors.v), 0)
        } else {
            let (rows, first) = self.visible_rows(index);
            gather(&mut scratch.k, tensors.k, kv_width, &rows);
            gather(&mut scratch.v, tensors.v, kv_width, &rows);
            (scratch.k.as_slice(), scratch.v.as_slice(), first)
        };
        let span = Span {
            q: &tensors.q[segment.start * width..][..segment.len * width],
            position: segment.position,
            k,
            v,
            first,
        };
        self.shape.attend(span, out, &mut scratch.chunk);
    }

    pub(super) fn composed(&self, q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
        let positions = positions(self.segments);
        let q = rotate::composed(q, &positions, self.shape)?;
        let k = rotate::composed(k, &positions, self.shape)?;
        let mut parts = Vec::with_capacity(self.segments.len());
        for (index, segment) in self.segments.iter().enumerate() {
            let (rows, first) = self.visible_rows(index);
            let pick = |x: &Tensor| {
                let parts = rows.iter().map(|rows| x.narrow(0, rows.start, rows.len()));
                Tensor::cat(&parts.collect::<Result<Vec<_>>>()?, 0)
            };
            let queries = q.narrow(0, segment.start, segment.len)?;
            parts.push(composed_span(
                self.shape,
                &queries,
                &pick(&k)?,
                &pick(v)?,
                segment.position,
                first,
            )?);
        }
        Tensor::cat(&parts, 0)
    }
}

fn of_rows(values: &[f32], width: usize, rows: std::ops::Range<usize>) -> &[f32] {
    &values[rows.start * width..rows.end * width]
}

fn gather(to: &mut Vec<f32>, from: &[f32], width: usize, rows: &[std::ops::Range<usize>]) {
    to.clear();
    for rows in rows {
        to.extend_from_slice(of_rows(from, width, rows.clone()));
    }
}

/// Values of the whole batch; keys are turned.
struct Tensors<'a> {
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
}

#[derive(Default)]
struct SegmentScratch {
    k: Vec<f32>,
    v: Vec<f32>,
    chunk: AttentionScratch,
}

impl CustomOp3 for TreeAttention<'_> {
    fn name(&self) -> &'static str {
        "causal-attention"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        q_layout: &Layout,
        k: &CpuStorage,
        k_layout: &Layout,
        v: &CpuStorage,
        v_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let positions = positions(self.segments);
        let k = contiguous(k, k_layout)?;
        let k = rotate_rows(self.shape, k, self.shape.kv_width(), &positions);
        let tensors = Tensors {
            q: contiguous(q, q_layout)?,
            k: &k,
            v: contiguous(v, v_layout)?,
        };
        let mut out = vec![0f32; tensors.q.len()];
        let mut rest = out.as_mut_slice();
        let mut parts = Vec::with_capacity(self.segments.len());
        for segment in self.segments {
            let (part, after) = rest.split_at_mut(segment.len * self.shape.width());
            parts.push(part);
            rest = after;
        }
        parts.into_par_iter().enumerate().for_each_init(
            SegmentScratch::default,
            |scratch, (index, out)| {
                self.attend_segment(index, &tensors, out, scratch);
            },
        );
        Ok((CpuStorage::F32(out), q_layout.shape().clone()))
    }
}
