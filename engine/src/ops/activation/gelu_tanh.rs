//! The Gaussian error linear unit by its approximation with tanh (arXiv 1606.08415, section 2).

use super::silu::times_sigmoid;

/// `x / 2 · (1 + tanh(u))` with `u = √(2/π) (x + 0.044715 x³)`, which is `x · σ(2u)`.
#[inline(always)]
pub(super) fn gelu_tanh(x: f32) -> f32 {
    // 2 √(2/π)
    const TWICE_ROOT: f32 = 1.595_769_2;
    times_sigmoid(x, TWICE_ROOT * x * (1.0 + 0.044_715 * x * x))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_agrees_with_tanh_in_double_precision() {
        for i in -2000..=2000 {
            let x = f64::from(i) / 200.0;
            let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
            let expected = x / 2.0 * (1.0 + u.tanh());
            #[expect(clippy::cast_possible_truncation, reason = "the function is in f32")]
            let actual = f64::from(gelu_tanh(x as f32));
            let off = (actual - expected).abs();
            assert!(
                off <= 1e-6 * expected.abs().max(0.1),
                "{x}: {actual}, {expected}"
            );
        }
    }
}
