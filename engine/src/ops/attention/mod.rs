//! Causal attention with rotary positions and grouped key-value heads, without a matrix of all pairs.
//!
//! `out[t] = Σ_s softmax_s(scale · q_t·k_s) v_s` over the tokens `s` on the path to `t`, itself included (and within
//! the sliding window), where q and k are turned by the rotary table first. Queries go in chunks; a chunk's scores
//! `[chunk, keys]` are all that exists at a time.

mod cached;
mod kernel;
mod layout;
mod rotate;
mod tree;

use candle_core::{D, Result, Tensor};

pub use cached::{CachedSequence, cached_attention};
pub use layout::{Segment, TokenLayout};
pub use rotate::rotate;
pub use tree::causal_attention;

use crate::model::RopeTable;

/// Heads of an attention and the positions it knows.
#[derive(Debug, Clone, Copy)]
pub struct AttentionShape<'a> {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// Factor of the scores before the softmax.
    pub scale: f32,
    /// Bounds the scores: `cap · tanh(score / cap)`.
    pub soft_cap: Option<f32>,
    /// A query sees this many tokens, itself included; `None` = all before it.
    pub window: Option<usize>,
    /// As many positions as the longest sequence has; `None` = nothing is turned.
    pub rope: Option<&'a RopeTable>,
}

impl AttentionShape<'_> {
    fn width(&self) -> usize {
        self.heads * self.head_dim
    }

    fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// Whether sequences of `len` tokens have positions.
    fn reaches(&self, len: usize) -> bool {
        self.rope
            .is_none_or(|rope| len * rope.half <= rope.cos.len())
    }

    /// Position of the first key that the query at `position` sees.
    fn first_key(&self, position: usize) -> usize {
        self.window
            .map_or(0, |window| (position + 1).saturating_sub(window))
    }
}

/// Scores that may exist at a time where there is no fused kernel.
const COMPOSED_SCORES: usize = 1 << 24;

/// Consecutive queries on the keys before them, by the tensor library's own operations.
///
/// - `q` (turned): `[n, heads · head_dim]`, the first at `position`
/// - `k` (turned), `v`: `[position + n − first, kv_heads · head_dim]`, the first at position `first`
fn composed_span(
    shape: &AttentionShape<'_>,
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    position: usize,
    first: usize,
) -> Result<Tensor> {
    let (queries, keys) = (q.dim(0)?, k.dim(0)?);
    let by_head = |x: &Tensor, heads: usize| {
        x.reshape((x.dim(0)?, heads, shape.head_dim))?
            .transpose(0, 1)?
            .contiguous()
    };
    let repeat = |x: Tensor| {
        let group = shape.heads / shape.kv_heads;
        x.unsqueeze(1)?
            .expand((shape.kv_heads, group, keys, shape.head_dim))?
            .reshape((shape.heads, keys, shape.head_dim))
    };
    let q = by_head(q, shape.heads)?;
    let k = repeat(by_head(k, shape.kv_heads)?)?.t()?;
    let v = repeat(by_head(v, shape.kv_heads)?)?;
    let chunk = (COMPOSED_SCORES / (shape.heads * keys)).max(1);
    let mut parts = Vec::new();
    for start in (0..queries).step_by(chunk) {
        let n = chunk.min(queries - start);
        let pairs = (start..start + n).flat_map(|row| (first..first + keys).map(move |s| (row, s)));
        let mask = pairs.map(|(row, s)| {
            let t = position + row;
            if s <= t && s >= shape.first_key(t) {
                0.0
            } else {
                f32::NEG_INFINITY
            }
        });
        let mask = Tensor::from_vec(mask.collect(), (n, keys), q.device())?;
        let scores = q.narrow(1, start, n)?.contiguous()?.matmul(&k)?;
        let mut scores = (scores * f64::from(shape.scale))?;
        if let Some(cap) = shape.soft_cap.map(f64::from) {
            scores = ((scores / cap)?.tanh()? * cap)?;
        }
        let scores = scores.broadcast_add(&mask)?;
        parts.push(candle_nn::ops::softmax(&scores, D::Minus1)?.matmul(&v)?);
    }
    Tensor::cat(&parts, 1)?
        .transpose(0, 1)?
        .contiguous()?
        .reshape((queries, shape.width()))
}

#[cfg(test)]
mod tests;
