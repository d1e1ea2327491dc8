//! Causal attention with rotary positions and grouped key-value heads, without a matrix of all pairs.
//!
//! `out[t] = Σ_s softmax_s(q_t·k_s / √head_dim) v_s` over `s ≤ t` (and `s > t − window`), where q and k are turned by
//! the rotary table first. Queries go in chunks; a chunk's scores `[chunk, keys]` are all that exists at a time.

use candle_core::{CpuStorage, CustomOp3, D, DType, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::matmul::{View, times, times_transposed};
use super::{ROWS_PER_TASK, contiguous, on_cpu};
use crate::engine::model::RopeTable;
use crate::engine::simd::{LANES, exp, max, vectorized};

/// Shape of an attention and the positions it knows.
#[derive(Debug, Clone, Copy)]
pub struct CausalAttention<'a> {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// Tokens per window; attention does not cross windows.
    pub seq_len: usize,
    /// A query sees this many tokens, itself included; `None` = all before it.
    pub sliding_window: Option<usize>,
    /// At least `seq_len` positions.
    pub rope: &'a RopeTable,
}

/// - `q`: `[n_windows · seq_len, heads · head_dim]`, f32
/// - `k`, `v`: `[n_windows · seq_len, kv_heads · head_dim]`, f32
///
/// Returns `[n_windows · seq_len, heads · head_dim]`.
pub fn causal_attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    shape: &CausalAttention<'_>,
) -> Result<Tensor> {
    let n_tokens = q.dim(0)?;
    if !n_tokens.is_multiple_of(shape.seq_len)
        || shape.rope.cos.len() < shape.seq_len * shape.rope.half
    {
        candle_core::bail!("{n_tokens} tokens in windows of {}", shape.seq_len);
    }
    if on_cpu(q) {
        q.apply_op3_no_bwd(k, v, shape)
    } else {
        shape.composed(q, k, v)
    }
}

/// Scores of a chunk of queries that stay in the second-level cache.
const SCORES_PER_CHUNK: usize = 1 << 16;

impl CausalAttention<'_> {
    /// Queries that are worked on together. Depends on the shape alone, so that results do not depend on the machine.
    fn chunk(&self) -> usize {
        (SCORES_PER_CHUNK / self.seq_len).clamp(32, 128)
    }

    /// First key that the query at `position` sees.
    fn first_key(&self, position: usize) -> usize {
        self.sliding_window
            .map_or(0, |window| (position + 1).saturating_sub(window))
    }

    /// Turns one token's heads from `x` into `y`; both `[n_heads · head_dim]`.
    #[inline(always)]
    fn rotate(&self, x: &[f32], y: &mut [f32], position: usize) {
        let half = self.rope.half;
        let cos = &self.rope.cos[position * half..][..half];
        let sin = &self.rope.sin[position * half..][..half];
        for (x, y) in x.chunks_exact(2 * half).zip(y.chunks_exact_mut(2 * half)) {
            let (x_low, x_high) = x.split_at(half);
            let (y_low, y_high) = y.split_at_mut(half);
            for i in 0..half {
                y_low[i] = x_low[i] * cos[i] - x_high[i] * sin[i];
                y_high[i] = x_high[i] * cos[i] + x_low[i] * sin[i];
            }
        }
    }

    fn rotate_all(&self, x: &[f32], width: usize) -> Vec<f32> {
        let mut y = vec![0f32; x.len()];
        let stride = width * ROWS_PER_TASK;
        y.par_chunks_mut(stride)
            .zip(x.par_chunks(stride))
            .enumerate()
            .for_each(|(task, (y, x))| {
                vectorized(|| {
                    for (row, (y, x)) in y
                        .chunks_exact_mut(width)
                        .zip(x.chunks_exact(width))
                        .enumerate()
                    {
                        self.rotate(x, y, (task * ROWS_PER_TASK + row) % self.seq_len);
                    }
                });
            });
        y
    }

    /// One chunk of queries of one window.
    ///
    /// - `q`, `out`: `[chunk, heads · head_dim]`, the chunk beginning at `position`
    /// - `k` (turned), `v`: `[seq_len, kv_heads · head_dim]`
    fn attend(&self, chunk: &Chunk<'_>, out: &mut [f32], scratch: &mut Scratch) {
        let (width, kv_width) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let queries = chunk.q.len() / width;
        let (first, end) = (self.first_key(chunk.position), chunk.position + queries);
        let keys = end - first;
        scratch.q.resize(chunk.q.len(), 0.0);
        scratch.scores.resize(queries * keys, 0.0);
        scratch.scale.resize(queries, 0.0);
        vectorized(|| {
            for (row, (x, y)) in chunk
                .q
                .chunks_exact(width)
                .zip(scratch.q.chunks_exact_mut(width))
                .enumerate()
            {
                self.rotate(x, y, chunk.position + row);
            }
        });
        for head in 0..self.heads {
            let kv_offset = head / (self.heads / self.kv_heads) * self.head_dim;
            let of_keys = |values| View {
                values,
                stride: kv_width,
                rows: keys,
                cols: self.head_dim,
            };
            let (k, v) = (
                &chunk.k[first * kv_width + kv_offset..],
                &chunk.v[first * kv_width + kv_offset..],
            );
            let q = &scratch.q[head * self.head_dim..];
            let q = View {
                values: q,
                stride: width,
                rows: queries,
                cols: self.head_dim,
            };
            times_transposed(
                &mut scratch.scores,
                q,
                of_keys(k),
                1.0 / (self.head_dim as f32).sqrt(),
            );
            for (row, (scores, scale)) in scratch
                .scores
                .chunks_exact_mut(keys)
                .zip(&mut scratch.scale)
                .enumerate()
            {
                let position = chunk.position + row;
                let seen = self.first_key(position) - first..position + 1 - first;
                *scale = 1.0 / vectorized(|| exponentials(scores, seen));
            }
            let weights = View {
                values: &scratch.scores,
                stride: keys,
                rows: queries,
                cols: keys,
            };
            let out = &mut out[head * self.head_dim..];
            times(out, width, weights, of_keys(v));
            for (row, scale) in out.chunks_mut(width).zip(&scratch.scale) {
                row[..self.head_dim].iter_mut().for_each(|y| *y *= scale);
            }
        }
    }

    fn composed(&self, q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
        let windows = q.dim(0)? / self.seq_len;
        let device = q.device();
        let table = |values: &[f32]| {
            Tensor::from_slice(
                &values[..self.seq_len * self.rope.half],
                (self.seq_len, self.rope.half),
                device,
            )
        };
        let (cos, sin) = (table(&self.rope.cos)?, table(&self.rope.sin)?);
        let by_head = |x: &Tensor, heads: usize| {
            x.reshape((windows, self.seq_len, heads, self.head_dim))?
                .transpose(1, 2)?
                .contiguous()
        };
        let repeat = |x: Tensor| {
            let group = self.heads / self.kv_heads;
            let shape = (windows, self.kv_heads, group, self.seq_len, self.head_dim);
            x.unsqueeze(2)?.expand(shape)?.reshape((
                windows,
                self.heads,
                self.seq_len,
                self.head_dim,
            ))
        };
        let q = candle_nn::rotary_emb::rope(&by_head(q, self.heads)?, &cos, &sin)?;
        let k = repeat(candle_nn::rotary_emb::rope(
            &by_head(k, self.kv_heads)?,
            &cos,
            &sin,
        )?)?;
        let v = repeat(by_head(v, self.kv_heads)?)?;
        let mut chunks = Vec::new();
        for position in (0..self.seq_len).step_by(self.chunk()) {
            let queries = self.chunk().min(self.seq_len - position);
            let end = position + queries;
            let scores = q
                .narrow(2, position, queries)?
                .contiguous()?
                .matmul(&k.narrow(2, 0, end)?.contiguous()?.t()?)?;
            let mask: Vec<f32> = (position..end)
                .flat_map(|p| (0..end).map(move |s| (p, s)))
                .map(|(p, s)| {
                    if s <= p && s >= self.first_key(p) {
                        0.0
                    } else {
                        f32::NEG_INFINITY
                    }
                })
                .collect();
            let mask = Tensor::from_vec(mask, (queries, end), device)?.to_dtype(DType::F32)?;
            let scores = (scores / (self.head_dim as f64).sqrt())?.broadcast_add(&mask)?;
            let weights = candle_nn::ops::softmax(&scores, D::Minus1)?;
            chunks.push(weights.matmul(&v.narrow(2, 0, end)?.contiguous()?)?);
        }
        let out = Tensor::cat(&chunks, 2)?.transpose(1, 2)?.contiguous()?;
        out.reshape((windows * self.seq_len, self.heads * self.head_dim))
    }
}

struct Chunk<'a> {
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    position: usize,
}

#[derive(Default)]
struct Scratch {
    q: Vec<f32>,
    scores: Vec<f32>,
    scale: Vec<f32>,
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

impl CustomOp3 for CausalAttention<'_> {
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
        let (width, kv_width) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let q = contiguous(q, q_layout)?;
        let k = self.rotate_all(contiguous(k, k_layout)?, kv_width);
        let v = contiguous(v, v_layout)?;
        let mut out = vec![0f32; q.len()];
        let (window, kv_window, chunk) =
            (self.seq_len * width, self.seq_len * kv_width, self.chunk());
        out.par_chunks_mut(window)
            .zip(q.par_chunks(window))
            .zip(k.par_chunks(kv_window).zip(v.par_chunks(kv_window)))
            .flat_map(|((out, q), (k, v))| {
                let queries = out
                    .par_chunks_mut(chunk * width)
                    .zip(q.par_chunks(chunk * width))
                    .enumerate();
                queries.map(move |(index, (out, q))| {
                    (
                        out,
                        Chunk {
                            q,
                            k,
                            v,
                            position: index * chunk,
                        },
                    )
                })
            })
            .for_each_init(Scratch::default, |scratch, (out, chunk)| {
                self.attend(&chunk, out, scratch);
            });
        Ok((CpuStorage::F32(out), q_layout.shape().clone()))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::engine::model::RopeScaling;

    fn compare(seq_len: usize, sliding_window: Option<usize>) {
        let (windows, heads, kv_heads, head_dim) = (2, 6, 2, 16);
        let rope = RopeTable::new(10_000.0, RopeScaling::Default, head_dim, seq_len);
        let shape = CausalAttention {
            heads,
            kv_heads,
            head_dim,
            seq_len,
            sliding_window,
            rope: &rope,
        };
        let random = |heads: usize| {
            Tensor::randn(
                0f32,
                1.0,
                (windows * seq_len, heads * head_dim),
                &Device::Cpu,
            )
            .unwrap()
        };
        let (q, k, v) = (random(heads), random(kv_heads), random(kv_heads));
        let fused = causal_attention(&q, &k, &v, &shape).unwrap();
        let difference = (fused - shape.composed(&q, &k, &v).unwrap())
            .unwrap()
            .abs()
            .unwrap();
        let worst = difference.max_all().unwrap().to_scalar::<f32>().unwrap();
        assert!(
            worst < 1e-5,
            "seq_len {seq_len}, window {sliding_window:?}: {worst}"
        );
    }

    #[test]
    fn fused_and_composed_agree() {
        for seq_len in [1, 7, 128, 129, 700] {
            compare(seq_len, None);
        }
    }

    #[test]
    fn a_sliding_window_hides_what_lies_before_it() {
        for window in [1, 5, 64, 400] {
            compare(300, Some(window));
        }
    }

    #[test]
    fn the_first_token_attends_to_itself_alone() {
        let rope = RopeTable::new(10_000.0, RopeScaling::Default, 2, 2);
        let shape = CausalAttention {
            heads: 1,
            kv_heads: 1,
            head_dim: 2,
            seq_len: 2,
            sliding_window: None,
            rope: &rope,
        };
        let q = Tensor::zeros((2, 2), DType::F32, &Device::Cpu).unwrap();
        let v = Tensor::new(&[[1f32, 2.0], [3.0, 6.0]], &Device::Cpu).unwrap();
        let out = causal_attention(&q, &q, &v, &shape)
            .unwrap()
            .to_vec2::<f32>()
            .unwrap();
        // Equal scores: the second token's output is the mean of both values.
        assert_eq!(out, [[1.0, 2.0], [2.0, 4.0]]);
    }
}
