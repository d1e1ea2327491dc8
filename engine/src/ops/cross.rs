//! Σ_t a_t b_tᵀ of two activations of the same tokens.

use candle_core::{Result, Storage, Tensor};
use rayon::prelude::*;

use super::matmul::{View, add_times};
use super::{contiguous, on_cpu};

/// Rows of the sum that are made on one thread.
const ROWS_PER_TASK: usize = 64;

/// Adds `Σ_t a[t][i] · b[t][j]` to `sum[i][j]`.
///
/// - `a`: `[n_tokens, n]`, `b`: `[n_tokens, m]`, f32
/// - `sum`: `[n, m]`, f32
///
/// Each element is the f32 sum of the matrix product, added in f32 to what was there.
pub fn add_cross(a: &Tensor, b: &Tensor, sum: &mut [f32]) -> Result<()> {
    let ((n_tokens, n), (n_tokens_b, m)) = (a.dims2()?, b.dims2()?);
    if n_tokens != n_tokens_b || sum.len() != n * m {
        let len = sum.len();
        candle_core::bail!("[{n_tokens}, {n}] and [{n_tokens_b}, {m}], a sum of {len}");
    }
    if !(on_cpu(a) && on_cpu(b)) {
        let product = a.t()?.matmul(b)?.flatten_all()?.to_vec1::<f32>()?;
        sum.iter_mut().zip(product).for_each(|(sum, x)| *sum += x);
        return Ok(());
    }
    let ((a, a_layout), (b, b_layout)) = (a.storage_and_layout(), b.storage_and_layout());
    let (Storage::Cpu(a), Storage::Cpu(b)) = (&*a, &*b) else {
        candle_core::bail!("a CPU tensor without CPU storage")
    };
    let (a, b) = (contiguous(a, a_layout)?, contiguous(b, b_layout)?);
    let b = View::rows(b, n_tokens, m, m);
    sum.par_chunks_mut(ROWS_PER_TASK * m)
        .enumerate()
        .for_each(|(task, sum)| {
            let first = task * ROWS_PER_TASK;
            let of_rows = View::rows(&a[first..], n_tokens, sum.len() / m, n).transposed();
            add_times(sum, m, of_rows, b, 1.0);
        });
    Ok(())
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn hand_computed() {
        let a = Tensor::new(&[[1f32, 2.0], [3.0, -0.5]], &Device::Cpu).unwrap();
        let b = Tensor::new(&[[1f32], [4.0]], &Device::Cpu).unwrap();
        let mut sum = vec![0.5, 0.0];
        add_cross(&a, &b, &mut sum).unwrap();
        assert_eq!(sum, [0.5 + 1.0 + 12.0, 2.0 - 2.0]);
    }

    #[test]
    fn it_agrees_with_double_precision_at_any_width() {
        for (n, m) in [(1, 3), (63, 65), (130, 64)] {
            let random = |width| Tensor::randn(0f32, 2.0, (200, width), &Device::Cpu).unwrap();
            let (a, b) = (random(n), random(m));
            let mut sum = vec![0.0; n * m];
            add_cross(&a, &b, &mut sum).unwrap();
            let (a, b) = (a.to_vec2::<f32>().unwrap(), b.to_vec2::<f32>().unwrap());
            for (at, sum) in sum.iter().enumerate() {
                let rows = a.iter().zip(&b);
                let exact: f64 = rows
                    .map(|(a, b)| f64::from(a[at / m]) * f64::from(b[at % m]))
                    .sum();
                assert!((f64::from(*sum) - exact).abs() < 1e-2, "{n}, {m}: {at}");
            }
        }
    }
}
