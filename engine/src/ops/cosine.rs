//! Σ_t cos(a_t, b_t) of two activations of the same tokens.

use candle_core::{D, Result, Storage, Tensor};
use rayon::prelude::*;

use super::{contiguous, on_cpu};

/// `Σ_t a_tᵀ b_t / (‖a_t‖ ‖b_t‖)`; a token counts 0 where either is zero.
///
/// - `a`, `b`: `[n_tokens, hidden]`, f32
///
/// On the CPU everything is f64, the tokens added in their order.
pub fn sum_of_cosines(a: &Tensor, b: &Tensor) -> Result<f64> {
    let ((n_tokens, hidden), of_b) = (a.dims2()?, b.dims2()?);
    if (n_tokens, hidden) != of_b {
        candle_core::bail!("[{n_tokens}, {hidden}] and {of_b:?}");
    }
    if !(on_cpu(a) && on_cpu(b)) {
        return composed(a, b);
    }
    let ((a, a_layout), (b, b_layout)) = (a.storage_and_layout(), b.storage_and_layout());
    let (Storage::Cpu(a), Storage::Cpu(b)) = (&*a, &*b) else {
        candle_core::bail!("a CPU tensor without CPU storage")
    };
    let (a, b) = (contiguous(a, a_layout)?, contiguous(b, b_layout)?);
    let tokens = a.par_chunks(hidden).zip(b.par_chunks(hidden));
    let cosines: Vec<f64> = tokens.map(|(a, b)| cosine(a, b)).collect();
    Ok(cosines.into_iter().sum())
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let (mut product, mut of_a, mut of_b) = (0f64, 0f64, 0f64);
    for (a, b) in a.iter().zip(b) {
        let (a, b) = (f64::from(*a), f64::from(*b));
        product += a * b;
        of_a += a * a;
        of_b += b * b;
    }
    quotient(product, of_a, of_b)
}

fn quotient(product: f64, of_a: f64, of_b: f64) -> f64 {
    if of_a == 0.0 || of_b == 0.0 {
        0.0
    } else {
        product / (of_a.sqrt() * of_b.sqrt())
    }
}

fn composed(a: &Tensor, b: &Tensor) -> Result<f64> {
    let sums = |x: Tensor| x.sum(D::Minus1)?.to_vec1::<f32>();
    let (products, of_a, of_b) = (sums((a * b)?)?, sums(a.sqr()?)?, sums(b.sqr()?)?);
    let tokens = products.into_iter().zip(of_a.into_iter().zip(of_b));
    let cosines = tokens.map(|(product, (a, b))| quotient(product.into(), a.into(), b.into()));
    Ok(cosines.sum())
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn tensor(rows: &[[f32; 2]]) -> Tensor {
        let values = rows.as_flattened().to_vec();
        Tensor::from_vec(values, (rows.len(), 2), &Device::Cpu).unwrap()
    }

    #[test]
    fn hand_computed_with_a_token_that_is_zero() {
        let a = tensor(&[[3.0, 4.0], [1.0, 0.0], [0.0, 0.0], [1.0, 1.0]]);
        let b = tensor(&[[4.0, 3.0], [-2.0, 0.0], [5.0, 1.0], [0.0, 7.0]]);
        let expected = 24.0 / 25.0 - 1.0 + 0.0 + 0.5f64.sqrt();
        for found in [sum_of_cosines(&a, &b), composed(&a, &b)] {
            let found = found.unwrap();
            assert!((found - expected).abs() < 1e-6, "{found}");
        }
        assert!(sum_of_cosines(&a, &tensor(&[[1.0, 2.0]])).is_err());
    }

    #[test]
    fn fused_and_composed_agree_and_a_nan_stays() {
        let random = || Tensor::randn(0.5f32, 2.0, (77, 33), &Device::Cpu).unwrap();
        let (a, b) = (random(), random());
        let (fused, composed) = (sum_of_cosines(&a, &b).unwrap(), composed(&a, &b).unwrap());
        assert!((fused - composed).abs() < 1e-4, "{fused} {composed}");
        let sick = tensor(&[[f32::NAN, 1.0]]);
        assert!(sum_of_cosines(&sick, &sick).unwrap().is_nan());
    }
}
