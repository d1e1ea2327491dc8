//! The rotary turn of queries and keys (RoFormer, arXiv 2104.09864, eq. 34).

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use crate::model::RopeTable;
use crate::ops::{ROWS_PER_TASK, contiguous, on_cpu};
use crate::simd::vectorized;

/// Turns the heads of each row by the row's position.
///
/// - `x`: `[n_tokens, n_heads · head_dim]`, f32
/// - `positions`: `n_tokens` positions that `rope` has
pub fn rotate(x: &Tensor, positions: &[usize], rope: &RopeTable) -> Result<Tensor> {
    let rows = x.dim(0)?;
    if rows != positions.len()
        || positions
            .iter()
            .any(|p| (p + 1) * rope.half > rope.cos.len())
    {
        candle_core::bail!("{rows} rows to turn by {} positions", positions.len());
    }
    if on_cpu(x) {
        x.apply_op1_no_bwd(&Rotate { positions, rope })
    } else {
        composed(x, positions, rope)
    }
}

pub(super) fn composed(x: &Tensor, positions: &[usize], rope: &RopeTable) -> Result<Tensor> {
    let (rows, width) = x.dims2()?;
    let table = |values: &[f32]| {
        let rows_of = |p: &usize| values[p * rope.half..][..rope.half].iter().copied();
        let gathered: Vec<f32> = positions.iter().flat_map(rows_of).collect();
        Tensor::from_vec(gathered, (rows, rope.half), x.device())
    };
    let by_head = x
        .reshape((1, rows, width / (2 * rope.half), 2 * rope.half))?
        .transpose(1, 2)?
        .contiguous()?;
    candle_nn::rotary_emb::rope(&by_head, &table(&rope.cos)?, &table(&rope.sin)?)?
        .transpose(1, 2)?
        .contiguous()?
        .reshape((rows, width))
}

/// Turns one token's heads from `x` into `y`; both `[n_heads · head_dim]`.
#[inline(always)]
pub(super) fn rotate_row(rope: &RopeTable, x: &[f32], y: &mut [f32], position: usize) {
    let half = rope.half;
    let cos = &rope.cos[position * half..][..half];
    let sin = &rope.sin[position * half..][..half];
    for (x, y) in x.chunks_exact(2 * half).zip(y.chunks_exact_mut(2 * half)) {
        let (x_low, x_high) = x.split_at(half);
        let (y_low, y_high) = y.split_at_mut(half);
        for i in 0..half {
            y_low[i] = x_low[i] * cos[i] - x_high[i] * sin[i];
            y_high[i] = x_high[i] * cos[i] + x_low[i] * sin[i];
        }
    }
}

/// All rows of `x`, each `width` wide.
pub(super) fn rotate_rows(
    rope: &RopeTable,
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
                    rotate_row(rope, x, y, position);
                }
            });
        });
    y
}

struct Rotate<'a> {
    positions: &'a [usize],
    rope: &'a RopeTable,
}

impl CustomOp1 for Rotate<'_> {
    fn name(&self) -> &'static str {
        "rotate"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let width = layout.shape().dims2()?.1;
        let y = rotate_rows(self.rope, contiguous(x, layout)?, width, self.positions);
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }
}
