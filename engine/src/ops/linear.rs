//! Products with weights.

use candle_core::{Result, Tensor};

use super::{on_cpu, widen};

/// Rows up to which the product is faster with the weights on the left: they are then packed in the order in which they
/// lie in memory. docs/PERFORMANCE.md has the measurement.
const FEW_ROWS: usize = 128;

/// `y = x · weightᵀ`
///
/// - `x`: `[n_tokens, d_in]`, f32
/// - `weight`: `[d_out, d_in]`, f32, f16 or bf16; the product is in f32
///
/// Returns `[n_tokens, d_out]`.
pub fn linear(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let (rows, weight) = (x.dim(0)?, widen(weight)?);
    if on_cpu(x) && rows > 1 && rows <= FEW_ROWS {
        weight.matmul(&x.t()?)?.t()?.contiguous()
    } else {
        x.matmul(&weight.t()?)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn few_and_many_rows_have_the_product_of_plain_loops() {
        let weight = Tensor::randn(0f32, 1.0, (37, 51), &Device::Cpu).unwrap();
        let rows = weight.to_vec2::<f32>().unwrap();
        for n in [1, 2, FEW_ROWS, FEW_ROWS + 1] {
            let x = Tensor::randn(0f32, 1.0, (n, 51), &Device::Cpu).unwrap();
            let y = linear(&x, &weight).unwrap();
            assert!(y.is_contiguous());
            let (x, y) = (x.to_vec2::<f32>().unwrap(), y.to_vec2::<f32>().unwrap());
            for (x, y) in x.iter().zip(&y) {
                for (row, y) in rows.iter().zip(y) {
                    let expected: f32 = x.iter().zip(row).map(|(x, w)| x * w).sum();
                    assert!((y - expected).abs() < 1e-4, "{n} rows: {y}, {expected}");
                }
            }
        }
    }
}
