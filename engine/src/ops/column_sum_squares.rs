//! Σ_t x_tj²: what Wanda needs to know of a linear's input (arXiv 2306.11695, section 3).

use candle_core::{Result, Storage, Tensor};
use rayon::prelude::*;

use super::{contiguous, on_cpu};
use crate::simd::vectorized;

/// Rows summed in f32 before the sum goes on in f64: short enough that f32 loses nothing of note.
const ROWS_PER_PARTIAL: usize = 64;

/// Adds `Σ_t x[t][j]²` to `sums[j]`.
///
/// - `x`: `[n_tokens, d_in]`, f32
/// - `sums`: `[d_in]`, f64
///
/// Squares are summed in f32 over 64 rows at a time; these partial sums are added in f64, in row order.
pub fn column_sum_squares(x: &Tensor, sums: &mut [f64]) -> Result<()> {
    let (_, d_in) = x.dims2()?;
    if d_in != sums.len() {
        candle_core::bail!("{d_in} input features, {} sums", sums.len());
    }
    let partials = if on_cpu(x) {
        let (storage, layout) = x.storage_and_layout();
        let Storage::Cpu(storage) = &*storage else {
            candle_core::bail!("a CPU tensor without CPU storage")
        };
        fused(contiguous(storage, layout)?, d_in)
    } else {
        composed(x)?
    };
    for partial in partials {
        for (sum, partial) in sums.iter_mut().zip(partial) {
            *sum += f64::from(partial);
        }
    }
    Ok(())
}

fn fused(x: &[f32], d_in: usize) -> Vec<Vec<f32>> {
    x.par_chunks(ROWS_PER_PARTIAL * d_in)
        .map(|rows| {
            let mut partial = vec![0f32; d_in];
            vectorized(|| {
                for row in rows.chunks_exact(d_in) {
                    for (sum, x) in partial.iter_mut().zip(row) {
                        *sum += x * x;
                    }
                }
            });
            partial
        })
        .collect()
}

fn composed(x: &Tensor) -> Result<Vec<Vec<f32>>> {
    let rows = x.dim(0)?;
    (0..rows)
        .step_by(ROWS_PER_PARTIAL)
        .map(|start| {
            x.narrow(0, start, ROWS_PER_PARTIAL.min(rows - start))?
                .sqr()?
                .sum(0)?
                .to_vec1()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn hand_computed_columns_are_added_to_what_was_there() {
        let x = Tensor::new(&[[1f32, -2.0], [3.0, 0.5]], &Device::Cpu).unwrap();
        let mut sums = vec![1.0, 0.0];
        column_sum_squares(&x, &mut sums).unwrap();
        assert_eq!(sums, [11.0, 4.25]);
    }

    #[test]
    fn fused_composed_and_double_precision_agree() {
        let x = Tensor::randn(0f32, 2.0, (1000, 33), &Device::Cpu).unwrap();
        let mut sums = vec![0.0; 33];
        column_sum_squares(&x, &mut sums).unwrap();
        let rows = x.to_vec2::<f32>().unwrap();
        let mut on_device = vec![0.0; 33];
        for partial in composed(&x).unwrap() {
            on_device
                .iter_mut()
                .zip(partial)
                .for_each(|(sum, p)| *sum += f64::from(p));
        }
        for j in 0..33 {
            let exact: f64 = rows.iter().map(|row| f64::from(row[j]).powi(2)).sum();
            assert!((sums[j] - exact).abs() < 1e-6 * exact);
            assert!((on_device[j] - exact).abs() < 1e-6 * exact);
        }
    }
}
