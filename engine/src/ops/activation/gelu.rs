//! The Gaussian error linear unit (arXiv 1606.08415).

use candle_core::cpu::erf::erf_f64;

/// `x / 2 · (1 + erf(x / √2))`, in double precision within.
#[inline(always)]
pub(super) fn gelu(x: f32) -> f32 {
    let x = f64::from(x);
    let y = 0.5 * x * (1.0 + erf_f64(x * std::f64::consts::FRAC_1_SQRT_2));
    #[expect(clippy::cast_possible_truncation, reason = "activations are f32")]
    let y = y as f32;
    y
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hand_computed() {
        // x Φ(x)
        for (x, expected) in [(1.0, 0.841_345), (-1.0, -0.158_655), (3.0, 2.995_95)] {
            assert!((gelu(x) - expected).abs() < 1e-6, "{x}");
        }
    }
}
