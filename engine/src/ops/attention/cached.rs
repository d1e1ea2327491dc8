//! Attention of one new token per sequence on a cache of turned keys and of values.

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::kernel::{AttentionScratch, Span};
use super::rotate;
use super::{AttentionShape, composed_span};
use crate::ops::{contiguous, on_cpu};

/// The rows of a cache that belong to a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CachedSequence {
    /// Row of its first token.
    pub start: usize,
    /// Its tokens, the new one included; at least 1.
    pub len: usize,
}

/// - `q`: `[n_sequences, heads · head_dim]`, f32: the last token of each sequence, not turned yet
/// - `k` (turned), `v`: `[_, kv_heads · head_dim]`, f32
///
/// Returns `[n_sequences, heads · head_dim]`.
pub fn cached_attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    shape: &AttentionShape<'_>,
    sequences: &[CachedSequence],
) -> Result<Tensor> {
    let rows = k.dim(0)?;
    let fits = |s: &CachedSequence| s.len > 0 && s.start + s.len <= rows && shape.reaches(s.len);
    if q.dim(0)? != sequences.len() || !sequences.iter().all(fits) {
        candle_core::bail!("{sequences:?} in a cache of {rows} rows");
    }
    let attention = CachedAttention { shape, sequences };
    if on_cpu(q) {
        q.apply_op3_no_bwd(k, v, &attention)
    } else {
        attention.composed(q, k, v)
    }
}

pub(super) struct CachedAttention<'a> {
    pub(super) shape: &'a AttentionShape<'a>,
    pub(super) sequences: &'a [CachedSequence],
}

impl CachedAttention<'_> {
    pub(super) fn composed(&self, q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
        let positions: Vec<usize> = self.sequences.iter().map(|s| s.len - 1).collect();
        let q = rotate::composed(q, &positions, self.shape)?;
        let outputs = self.sequences.iter().enumerate().map(|(row, sequence)| {
            composed_span(
                self.shape,
                &q.narrow(0, row, 1)?,
                &k.narrow(0, sequence.start, sequence.len)?,
                &v.narrow(0, sequence.start, sequence.len)?,
                sequence.len - 1,
                0,
            )
        });
        Tensor::cat(&outputs.collect::<Result<Vec<_>>>()?, 0)
    }
}

impl CustomOp3 for CachedAttention<'_> {
    fn name(&self) -> &'static str {
        "cached-attention"
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
        let (width, kv_width) = (self.shape.width(), self.shape.kv_width());
        let (q, k, v) = (
            contiguous(q, q_layout)?,
            contiguous(k, k_layout)?,
            contiguous(v, v_layout)?,
        );
        let mut out = vec![0f32; q.len()];
        out.par_chunks_mut(width)
            .zip(q.par_chunks(width))
            .zip(self.sequences)
            .for_each_init(
                AttentionScratch::default,
                |scratch, ((out, q), sequence)| {
                    let rows =
                        sequence.start * kv_width..(sequence.start + sequence.len) * kv_width;
                    let span = Span {
                        q,
                        position: sequence.len - 1,
                        k: &k[rows.clone()],
                        v: &v[rows],
                        first: 0,
                    };
                    self.shape.attend(span, out, scratch);
                },
            );
        Ok((CpuStorage::F32(out), q_layout.shape().clone()))
    }
}
