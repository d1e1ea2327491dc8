//! Sums of activations.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::{contiguous, on_cpu};

/// Elements that are worth a task of their own.
const ELEMENTS_PER_TASK: usize = 1 << 14;

/// `z[t][j] = x[t][j] + y[t][j]`, or `x[t][j] + y[j]` if `y` has one dimension; f32.
///
/// On the CPU the tensor library adds with threads of its own, which spin and do not heed the number of threads.
pub fn add(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    if !on_cpu(x) {
        return x.broadcast_add(y);
    }
    if x.dims() != y.dims() && Some(y.dims()) != x.dims().last_chunk::<1>().map(|d| &d[..]) {
        candle_core::bail!("a sum of {:?} and {:?}", x.dims(), y.dims());
    }
    x.apply_op2_no_bwd(y, &Add)
}

struct Add;

impl CustomOp2 for Add {
    fn name(&self) -> &'static str {
        "add"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        y: &CpuStorage,
        y_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, y) = (contiguous(x, x_layout)?, contiguous(y, y_layout)?);
        let mut z = vec![0f32; x.len()];
        if x.len() == y.len() {
            z.par_chunks_mut(ELEMENTS_PER_TASK)
                .zip(x.par_chunks(ELEMENTS_PER_TASK))
                .zip(y.par_chunks(ELEMENTS_PER_TASK))
                .for_each(|((z, x), y)| sum(z, x, y));
        } else {
            let chunk = y.len() * ELEMENTS_PER_TASK.div_ceil(y.len());
            z.par_chunks_mut(chunk)
                .zip(x.par_chunks(chunk))
                .for_each(|(z, x)| {
                    let rows = z.chunks_exact_mut(y.len()).zip(x.chunks_exact(y.len()));
                    rows.for_each(|(z, x)| sum(z, x, y));
                });
        }
        Ok((CpuStorage::F32(z), x_layout.shape().clone()))
    }
}

fn sum(z: &mut [f32], x: &[f32], y: &[f32]) {
    for ((z, x), y) in z.iter_mut().zip(x).zip(y) {
        *z = x + y;
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn hand_computed_sums() {
        let x = Tensor::new(&[[1f32, 2.0], [3.0, 4.0]], &Device::Cpu).unwrap();
        let bias = Tensor::new(&[10f32, 20.0], &Device::Cpu).unwrap();
        let rows = |z: Result<Tensor>| z.unwrap().to_vec2::<f32>().unwrap();
        assert_eq!(rows(add(&x, &x)), [[2.0, 4.0], [6.0, 8.0]]);
        assert_eq!(rows(add(&x, &bias)), [[11.0, 22.0], [13.0, 24.0]]);
        assert!(add(&x, &bias.narrow(0, 0, 1).unwrap()).is_err());
    }

    #[test]
    fn sums_have_the_bits_of_the_tensor_library() {
        let random = |shape: &[usize]| Tensor::randn(0f32, 1.0, shape, &Device::Cpu).unwrap();
        let x = random(&[301, 257]);
        for y in [random(&[301, 257]), random(&[257])] {
            let values = |z: Tensor| z.to_vec2::<f32>().unwrap();
            let expected = values(x.broadcast_add(&y).unwrap());
            assert!(values(add(&x, &y).unwrap()) == expected);
        }
    }
}
