//! What of the machine decides the last bits of a result.
//!
//! Everything but the matrix product gives the same bits on every processor (`simd.rs`). The product of the `gemm`
//! crate adds up each element in partial sums over the inner dimension, with fused multiply-add where the processor has
//! it. The length of a partial sum follows from the shape of the kernel, which follows from the instruction set, and
//! from size and ways of the first-level cache; other caches and the number of threads only decide how the work is cut.

use candle_core::DeviceLocation;
use gemm_common::cache::kernel_params;

/// An inner dimension that is longer than any partial sum.
const LONG: usize = 1 << 24;

/// The dtype of the computation and how its sums are made: equal where all results are equal.
pub fn compute_type(device: DeviceLocation) -> String {
    match device {
        DeviceLocation::Cpu => {
            let (instructions, rows, columns) = kernel();
            let params = kernel_params(LONG, LONG, LONG, rows, columns, size_of::<f32>());
            format!("f32 {instructions} {}", params.kc)
        }
        // The kernels of a GPU follow from its model and its libraries, which are not looked at.
        DeviceLocation::Cuda { .. } => "f32 cuda".to_owned(),
        DeviceLocation::Metal { .. } => "f32 metal".to_owned(),
    }
}

/// The instruction set of the product, and rows and columns of its kernel in f32.
#[cfg(target_arch = "x86_64")]
fn kernel() -> (&'static str, usize, usize) {
    if is_x86_feature_detected!("avx512f") {
        ("avx512f", 64, 6)
    } else if is_x86_feature_detected!("fma") {
        ("fma", 16, 6)
    } else {
        ("scalar", 2, 4)
    }
}

#[cfg(target_arch = "aarch64")]
fn kernel() -> (&'static str, usize, usize) {
    ("neon", 16, 4)
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn kernel() -> (&'static str, usize, usize) {
    ("scalar", 2, 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_names_dtype_instructions_and_the_length_of_partial_sums() {
        let text = compute_type(DeviceLocation::Cpu);
        let parts: Vec<&str> = text.split(' ').collect();
        let &["f32", _, length] = parts.as_slice() else {
            panic!("{text}")
        };
        assert!((512..=4096).contains(&length.parse().unwrap()), "{text}");
    }
}
