//! One matrix product on slices, for loops that are parallel already.

/// A view of a matrix whose element `(i, j)` stands at `i · row_stride + j · col_stride`.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    values: &'a [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a> View<'a> {
    /// A row-major matrix whose rows lie `stride` elements apart.
    pub(crate) fn rows(values: &'a [f32], rows: usize, cols: usize, stride: usize) -> Self {
        Self {
            values,
            rows,
            cols,
            row_stride: stride,
            col_stride: 1,
        }
    }

    /// The matrix with rows and columns exchanged.
    pub(crate) fn transposed(self) -> Self {
        Self {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }

    /// Whether every element of the view lies in its slice.
    fn fits(&self) -> bool {
        let last = |n: usize, stride: usize| n.saturating_sub(1) * stride;
        let end = last(self.rows, self.row_stride) + last(self.cols, self.col_stride);
        self.rows == 0 || self.cols == 0 || end < self.values.len()
    }
}

/// `out = scale · a · b`, rows of `out` `stride` apart, on the calling thread.
pub(crate) fn times(out: &mut [f32], stride: usize, a: View<'_>, b: View<'_>, scale: f32) {
    multiply(out, stride, a, b, scale, false);
}

/// `out += scale · a · b`, rows of `out` `stride` apart, on the calling thread.
pub(crate) fn add_times(out: &mut [f32], stride: usize, a: View<'_>, b: View<'_>, scale: f32) {
    multiply(out, stride, a, b, scale, true);
}

#[expect(unsafe_code, reason = "the matrix product takes raw pointers")]
#[expect(
    clippy::cast_possible_wrap,
    reason = "a slice is shorter than isize::MAX"
)]
fn multiply(out: &mut [f32], stride: usize, a: View<'_>, b: View<'_>, scale: f32, add: bool) {
    let result = View::rows(out, a.rows, b.cols, stride);
    assert!(
        a.cols == b.rows && b.cols <= stride && a.fits() && b.fits() && result.fits(),
        "shapes of a·b"
    );
    // SAFETY: all elements of `a`, `b` and the result lie in their slices, as was checked; rows of the result do not
    // overlap, for they are no longer than their distance, and `out` is borrowed mutably, so it overlaps no operand.
    unsafe {
        gemm::gemm(
            a.rows,
            b.cols,
            a.cols,
            out.as_mut_ptr(),
            1,
            stride as isize,
            add,
            a.values.as_ptr(),
            a.col_stride as isize,
            a.row_stride as isize,
            b.values.as_ptr(),
            b.col_stride as isize,
            b.row_stride as isize,
            if add { 1.0 } else { 0.0 },
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
        let at = |view: &View<'_>, i: usize, j: usize| {
            view.values[i * view.row_stride + j * view.col_stride]
        };
        let a = View::rows(&values[3..], 5, 7, 9);
        let lhs = [a, View::rows(&values[3..], 7, 5, 6).transposed()];
        let rhs = [
            View::rows(&values[1..], 6, 7, 11).transposed(),
            View::rows(&values[2..], 7, 3, 8),
        ];
        for (a, b) in lhs.into_iter().flat_map(|a| rhs.map(|b| (a, b))) {
            let mut out = vec![f32::NAN; a.rows * b.cols];
            times(&mut out, b.cols, a, b, 0.5);
            let mut sum = vec![2.0; a.rows * b.cols];
            add_times(&mut sum, b.cols, a, b, -1.0);
            for i in 0..a.rows {
                for j in 0..b.cols {
                    let expected: f32 = (0..a.cols).map(|k| at(&a, i, k) * at(&b, k, j)).sum();
                    assert!((out[i * b.cols + j] - 0.5 * expected).abs() < 1e-3);
                    assert!((sum[i * b.cols + j] - (2.0 - expected)).abs() < 1e-3);
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "shapes")]
    fn a_view_beyond_its_slice_is_refused() {
        let values = [0.0; 10];
        let a = View::rows(&values, 2, 6, 6);
        times(&mut [0.0; 4], 2, a, a.transposed(), 1.0);
    }
}
