//! The rectified linear unit.

/// `max(x, 0)`; NaN is kept.
#[inline(always)]
pub(super) fn relu(x: f32) -> f32 {
    if x < 0.0 { 0.0 } else { x }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hand_computed() {
        for (x, y) in [(-2.0, 0.0), (0.0, 0.0), (3.0, 3.0)] {
            assert!((relu(x) - y).abs() < f32::EPSILON);
        }
        assert!(relu(f32::NAN).is_nan());
    }
}
