//! The gate of SwiGLU (arXiv 2002.05202, eq. 6).

use crate::simd::exp;

/// `x · σ(x)`.
#[inline(always)]
pub(super) fn silu(x: f32) -> f32 {
    times_sigmoid(x, x)
}

/// `x · σ(y)`.
#[inline(always)]
pub(super) fn times_sigmoid(x: f32, y: f32) -> f32 {
    // Above -88 eˣ of -y is finite; below, σ(y) is 0 to within f32.
    let clamped = if y < -87.0 { -87.0 } else { y };
    x / (1.0 + exp(-clamped))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hand_computed() {
        assert!((silu(1.0) - 0.731_058_6).abs() < 1e-6);
        assert!((silu(-2.0) + 0.238_405_84).abs() < 1e-6);
    }
}
