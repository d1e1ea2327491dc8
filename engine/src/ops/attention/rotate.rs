//! The rotary turn of queries and keys (RoFormer, arXiv 2104.09864, eq. 34).

use candle_core::{CpuStorage, CustomOp1, D, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::AttentionShape;
use crate::ops::{ROWS_PER_TASK, contiguous, on_cpu};
use crate::simd::vectorized;

/// Turns the heads of each row by the row's position.
///
/// - `x`: `[n_tokens, n_heads · head_dim]`, f32
/// - `positions`: `n_tokens` positions that the rotary table of `shape` has
pub fn rotate(x: &Tensor, positions: &[usize], shape: &AttentionShape<'_>) -> Result<Tensor> {
    let rows = x.dim(0)?;
    if rows != positions.len() || !positions.iter().all(|p| shape.reaches(p + 1)) {
        candle_core::bail!("{rows} rows to turn by {} positions", positions.len());
    }
    if on_cpu(x) {
        x.apply_op1_no_bwd(&Rotate { positions, shape })
    } else {
        composed(x, positions, shape)
    }
}

pub(super) fn composed(
    x: &Tensor,
    positions: &[usize],
    shape: &AttentionShape<'_>,
) -> Result<Tensor> {
    let Some(rope) = shape.rope else {
        return Ok(x.clone());
    };
    let (rows, width) = x.dims2()?;
    let table = |values: &[f32]| {
        let rows_of = |p: &usize| values[p * rope.half..][..rope.half].iter().copied();
        let gathered: Vec<f32> = positions.iter().flat_map(rows_of).collect();
        Tensor::from_vec(gathered, (rows, rope.half), x.device())
    };
    let (head_dim, turned) = (shape.head_dim, 2 * rope.half);
    let by_head = x
        .reshape((1, rows, width / head_dim, head_dim))?
        .transpose(1, 2)?
        .contiguous()?;
    let first = by_head.narrow(D::Minus1, 0, turned)?.contiguous()?;
    let first = candle_nn::rotary_emb::rope(&first, &table(&rope.cos)?, &table(&rope.sin)?)?;
    let rest = by_head.narrow(D::Minus1, turned, head_dim - turned)?;
    Tensor::cat(&[&first, &rest], D::Minus1)?
        .transpose(1, 2)?
        .contiguous()?
        .reshape((rows, width))
}

/// Turns one token's heads from `x` into `y`; both `[n_heads · head_dim]`.
#[inline(always)]
pub(super) fn rotate_row(shape: &AttentionShape<'_>, x: &[f32], y: &mut [f32], position: usize) {
    let Some(rope) = shape.rope else {
        return y.copy_from_slice(x);
    };
    let head_dim = shape.head_dim;
    let half = rope.half;
    let cos = &rope.cos[position * half..][..half];
    let sin = &rope.sin[position * half..][..half];
    for (x, y) in x.chunks_exact(head_dim).zip(y.chunks_exact_mut(head_dim)) {
        let (x, x_rest) = x.split_at(2 * half);
        let (y, y_rest) = y.split_at_mut(2 * half);
        let (x_low, x_high) = x.split_at(half);
        let (y_low, y_high) = y.split_at_mut(half);
        for i in 0..half {
            y_low[i] = x_low[i] * cos[i] - x_high[i] * sin[i];
            y_high[i] = x_high[i] * cos[i] + x_low[i] * sin[i];
        }
        y_rest.copy_from_slice(x_rest);
    }
}

/// All rows of `x`, each `width` wide.
pub(super) fn rotate_rows(
    shape: &AttentionShape<'_>,
    x: &[f32],
    width: usize,
    positions: &[usize],
) -> Vec<f32> {
    let mut y = vec![0f32; x.len()];
    let stride = width * ROWS_PER_TASK;
    y.par_chunks_mut(stride)
        .zip(x.par_chunks(stride))
        .zip(positions.par_chunks(ROWS_PER_TASK))
        .for_each(|((y, x), positions)| {
            vectorized(|| {
                for ((y, x), &position) in y
                    .chunks_exact_mut(width)
                    .zip(x.chunks_exact(width))
                    .zip(positions)
                {
                    rotate_row(shape, x, y, position);
                }
            });
        });
    y
}

struct Rotate<'a> {
    positions: &'a [usize],
    shape: &'a AttentionShape<'a>,
}

impl CustomOp1 for Rotate<'_> {
    fn name(&self) -> &'static str {
        "rotate"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let width = layout.shape().dims2()?.1;
        let y = rotate_rows(self.shape, contiguous(x, layout)?, width, self.positions);
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }
}
