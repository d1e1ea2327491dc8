//! Σ_t x_t x_tᵀ: what second-order methods need to know of a linear's input.

use candle_core::{Result, Storage, Tensor};
use rayon::prelude::*;

use super::matmul::{View, add_times};
use super::{contiguous, on_cpu};

/// Rows of the sum that are made on one thread.
const ROWS_PER_TASK: usize = 64;

/// Adds `Σ_t x[t][i] · x[t][j]` to `gram[i][j]` where `j ≤ i`; what stands above the diagonal afterwards is undefined.
///
/// - `x`: `[n_tokens, d_in]`, f32
/// - `gram`: `[d_in, d_in]`, f32
///
/// Each element is the f32 sum of the matrix product, added in f32 to what was there.
pub fn add_gram(x: &Tensor, gram: &mut [f32]) -> Result<()> {
    let (n_tokens, d_in) = x.dims2()?;
    if gram.len() != d_in * d_in {
        candle_core::bail!("{d_in} input features, a Gram matrix of {}", gram.len());
    }
    if on_cpu(x) {
        let (storage, layout) = x.storage_and_layout();
        let Storage::Cpu(storage) = &*storage else {
            candle_core::bail!("a CPU tensor without CPU storage")
        };
        add_lower(contiguous(storage, layout)?, n_tokens, d_in, gram);
    } else {
        let product = x.t()?.matmul(x)?.flatten_all()?.to_vec1::<f32>()?;
        gram.iter_mut().zip(product).for_each(|(sum, x)| *sum += x);
    }
    Ok(())
}

/// Each task makes some rows up to its last diagonal element.
fn add_lower(x: &[f32], n_tokens: usize, d_in: usize, gram: &mut [f32]) {
    gram.par_chunks_mut(ROWS_PER_TASK * d_in)
        .enumerate()
        .for_each(|(task, gram)| {
            let first = task * ROWS_PER_TASK;
            let rows = gram.len() / d_in;
            let of_rows = View::rows(&x[first..], n_tokens, rows, d_in).transposed();
            let up_to_diagonal = View::rows(x, n_tokens, first + rows, d_in);
            add_times(gram, d_in, of_rows, up_to_diagonal, 1.0);
        });
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn hand_computed() {
        let x = Tensor::new(&[[1f32, 2.0], [3.0, -0.5]], &Device::Cpu).unwrap();
        let mut gram = vec![1.0, 0.0, 0.0, 0.0];
        add_gram(&x, &mut gram).unwrap();
        // 1 + 1·1 + 3·3; 2·1 - 0.5·3; 2·2 + 0.5·0.5
        let lower = [gram[0], gram[2], gram[3]].map(f32::to_bits);
        assert_eq!(lower, [11f32, 0.5, 4.25].map(f32::to_bits));
    }

    #[test]
    fn it_agrees_with_double_precision_at_any_width() {
        for d_in in [1, 63, 64, 65, 200] {
            let x = Tensor::randn(0f32, 2.0, (300, d_in), &Device::Cpu).unwrap();
            let mut gram = vec![0.0; d_in * d_in];
            add_gram(&x, &mut gram).unwrap();
            let rows = x.to_vec2::<f32>().unwrap();
            for i in 0..d_in {
                for j in 0..=i {
                    let products = rows.iter().map(|row| f64::from(row[i]) * f64::from(row[j]));
                    let exact: f64 = products.sum();
                    let off = (f64::from(gram[i * d_in + j]) - exact).abs();
                    assert!(off < 1e-2, "{d_in}: ({i}, {j}) is off by {off}");
                }
            }
        }
    }
}
