//! One matrix product on slices, for loops that are parallel already.

/// A view of a row-major matrix whose rows lie `stride` elements apart.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) values: &'a [f32],
    pub(super) stride: usize,
    pub(super) rows: usize,
    pub(super) cols: usize,
}

impl View<'_> {
    /// Whether every element of the view lies in its slice.
    fn fits(&self) -> bool {
        self.rows == 0
            || self.cols <= self.stride
                && (self.rows - 1) * self.stride + self.cols <= self.values.len()
    }
}

/// `out = scale · a · bᵀ`, `out` row-major `[a.rows, b.rows]`, on the calling thread.
pub(super) fn times_transposed(out: &mut [f32], a: View<'_>, b: View<'_>, scale: f32) {
    let result = View {
        values: out,
        stride: b.rows,
        rows: a.rows,
        cols: b.rows,
    };
    assert!(
        a.fits() && b.fits() && a.cols == b.cols && result.fits(),
        "shapes of a·bᵀ"
    );
    let strides = Strides {
        out_row: b.rows,
        rhs_col: b.stride,
        rhs_row: 1,
    };
    multiply(out, a, b.values, b.rows, &strides, scale);
}

/// `out = a · b`, `[a.rows, b.cols]` with rows `out_stride` apart, on the calling thread.
pub(super) fn times(out: &mut [f32], out_stride: usize, a: View<'_>, b: View<'_>) {
    let result = View {
        values: out,
        stride: out_stride,
        rows: a.rows,
        cols: b.cols,
    };
    assert!(
        a.fits() && b.fits() && a.cols == b.rows && result.fits(),
        "shapes of a·b"
    );
    let strides = Strides {
        out_row: out_stride,
        rhs_col: 1,
        rhs_row: b.stride,
    };
    multiply(out, a, b.values, b.cols, &strides, 1.0);
}

struct Strides {
    out_row: usize,
    rhs_col: usize,
    rhs_row: usize,
}

#[expect(unsafe_code, reason = "the matrix product takes raw pointers")]
#[expect(
    clippy::cast_possible_wrap,
    reason = "a slice is shorter than isize::MAX"
)]
fn multiply(out: &mut [f32], a: View<'_>, rhs: &[f32], cols: usize, strides: &Strides, scale: f32) {
    // SAFETY: the callers check that all `a.rows · a.cols` elements of `a`, all elements of the right-hand side
    // under `strides`, and all `a.rows · cols` elements of `out` lie in their slices; `out` is borrowed mutably, so
    // it overlaps neither operand. `read_dst` is false: what `out` holds is not read.
    unsafe {
        gemm::gemm(
            a.rows,
            cols,
            a.cols,
            out.as_mut_ptr(),
            1,
            strides.out_row as isize,
            false,
            a.values.as_ptr(),
            1,
            a.stride as isize,
            rhs.as_ptr(),
            strides.rhs_col as isize,
            strides.rhs_row as isize,
            0.0,
            scale,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_of_strided_views_are_those_of_plain_loops() {
        let values: Vec<f32> = (0..200_u8).map(|i| f32::from(i % 23) - 11.0).collect();
        let a = View {
            values: &values[3..],
            stride: 9,
            rows: 5,
            cols: 7,
        };
        let b = View {
            values: &values[1..],
            stride: 11,
            rows: 6,
            cols: 7,
        };
        let mut out = vec![f32::NAN; 30];
        times_transposed(&mut out, a, b, 0.5);
        for i in 0..5 {
            for j in 0..6 {
                let expected: f32 = (0..7)
                    .map(|k| a.values[i * 9 + k] * b.values[j * 11 + k])
                    .sum();
                assert!((out[i * 6 + j] - 0.5 * expected).abs() < 1e-3);
            }
        }
        let c = View {
            values: &values[2..],
            stride: 8,
            rows: 7,
            cols: 3,
        };
        let mut out = vec![f32::NAN; 15];
        times(&mut out, 3, a, c);
        for i in 0..5 {
            for j in 0..3 {
                let expected: f32 = (0..7)
                    .map(|k| a.values[i * 9 + k] * c.values[k * 8 + j])
                    .sum();
                assert!((out[i * 3 + j] - expected).abs() < 1e-3);
            }
        }
    }

    #[test]
    #[should_panic(expected = "shapes")]
    fn a_view_beyond_its_slice_is_refused() {
        let values = [0.0; 10];
        let a = View {
            values: &values,
            stride: 6,
            rows: 2,
            cols: 6,
        };
        times_transposed(&mut [0.0; 4], a, a, 1.0);
    }
}
