//! Inverses of symmetric positive definite matrices, by their Cholesky factors.

use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::cholesky::llt::factor::{self, LltRegularization};
use faer::linalg::cholesky::llt::inverse;
use faer::linalg::triangular_inverse::invert_lower_triangular;
use faer::traits::RealField;
use faer::{Mat, Par, Spec};

/// The upper triangular `U`, `[n, n]`, made in f64, with `A⁻¹ = Uᵀ U`; `None` if `A` is not positive definite.
///
/// With rows and columns in reverse order, `A = L Lᵀ`; so `L⁻¹` in reverse order is `U`.
pub(crate) fn inverse_factor(n: usize, a: impl Fn(usize, usize) -> f64) -> Option<Vec<f32>> {
    let reversed = Mat::from_fn(n, n, |i, j| a(n - 1 - i, n - 1 - j));
    let factor = lower_factor(reversed)?;
    let mut inverse = Mat::zeros(n, n);
    invert_lower_triangular(inverse.as_mut(), factor.as_ref(), Par::Seq);
    Some(row_major(n, |i, j| {
        if i <= j {
            narrow(inverse[(n - 1 - i, n - 1 - j)])
        } else {
            0.0
        }
    }))
}

#[expect(clippy::cast_possible_truncation, reason = "what follows is in f32")]
fn narrow(value: f64) -> f32 {
    value as f32
}

/// `A⁻¹`, `[n, n]`, made in f32; `None` if `A` is not positive definite.
pub(crate) fn inverse_of(n: usize, a: impl Fn(usize, usize) -> f32) -> Option<Vec<f32>> {
    let factor = lower_factor(Mat::from_fn(n, n, a))?;
    let mut whole = Mat::zeros(n, n);
    let mut memory = MemBuffer::new(inverse::inverse_scratch::<f32>(n, Par::Seq));
    let stack = MemStack::new(&mut memory);
    inverse::inverse(whole.as_mut(), factor.as_ref(), Par::Seq, stack);
    Some(row_major(n, |i, j| whole[(i.max(j), i.min(j))]))
}

/// `L` with `A = L Lᵀ`; only the lower triangle of `A` is read.
fn lower_factor<T: RealField>(mut a: Mat<T>) -> Option<Mat<T>> {
    let (n, params) = (a.nrows(), Spec::default());
    let scratch = factor::cholesky_in_place_scratch::<T>(n, Par::Seq, params);
    let mut memory = MemBuffer::new(scratch);
    let stack = MemStack::new(&mut memory);
    factor::cholesky_in_place(
        a.as_mut(),
        LltRegularization::default(),
        Par::Seq,
        stack,
        params,
    )
    .is_ok()
    .then_some(a)
}

fn row_major(n: usize, at: impl Fn(usize, usize) -> f32) -> Vec<f32> {
    let places = (0..n).flat_map(|i| (0..n).map(move |j| (i, j)));
    places.map(|(i, j)| at(i, j)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: [[f64; 3]; 3] = [[4.0, 2.0, 0.5], [2.0, 3.0, 1.0], [0.5, 1.0, 2.0]];

    #[test]
    fn factors_and_inverses_undo_the_matrix() {
        let u = inverse_factor(3, |i, j| A[i][j]).unwrap();
        let inverse = inverse_of(3, |i, j| narrow(A[i][j])).unwrap();
        for i in 0..3 {
            assert!(u[i * 3 + i] > 0.0 && u[i * 3..i * 3 + i].iter().all(|&x| x == 0.0));
            for j in 0..3 {
                let product: f32 = (0..3).map(|k| u[k * 3 + i] * u[k * 3 + j]).sum();
                assert!((product - inverse[i * 3 + j]).abs() < 1e-6);
                let unit: f64 = (0..3)
                    .map(|k| A[i][k] * f64::from(inverse[k * 3 + j]))
                    .sum();
                assert!((unit - f64::from(u8::from(i == j))).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn a_matrix_that_is_not_positive_definite_has_no_factor() {
        assert!(inverse_factor(2, |_, _| 1.0).is_none_or(|u| u.iter().any(|x| !x.is_finite())));
        assert!(inverse_of(2, |i, j| if i == j { -1.0 } else { 0.0 }).is_none());
    }
}
