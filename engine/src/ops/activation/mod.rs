//! Nonlinearities of feed-forward parts, and the soft cap of logits.

mod gelu;
mod gelu_tanh;
mod relu;
mod silu;
mod soft_cap;

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor};
use gelu::gelu;
use gelu_tanh::gelu_tanh;
use rayon::prelude::*;
use relu::relu;
use silu::silu;
pub use soft_cap::soft_cap;
pub(in crate::ops) use soft_cap::soft_cap_values;

use super::{ROWS_PER_TASK, contiguous, on_cpu};
use crate::simd::vectorized;

/// Elements that are worth a task of their own.
const ELEMENTS_PER_TASK: usize = 1 << 14;

/// A function of one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Activation {
    /// `x · σ(x)`.
    #[default]
    Silu,
    /// GELU by its approximation with tanh.
    GeluTanh,
    /// GELU.
    Gelu,
    /// `max(x, 0)`.
    Relu,
}

impl Activation {
    /// `y = activation(gate) · up`, elementwise, f32, all of one shape.
    pub fn gate(self, gate: &Tensor, up: &Tensor) -> Result<Tensor> {
        if !on_cpu(gate) {
            return self.composed(gate)? * up;
        }
        match self {
            Self::Silu => gate.apply_op2_no_bwd(up, &Gate(silu)),
            Self::GeluTanh => gate.apply_op2_no_bwd(up, &Gate(gelu_tanh)),
            Self::Gelu => gate.apply_op2_no_bwd(up, &Gate(gelu)),
            Self::Relu => gate.apply_op2_no_bwd(up, &Gate(relu)),
        }
    }

    /// The same of gate and up side by side, `[n, 2 · width]`, f32.
    pub fn gate_stacked(self, both: &Tensor) -> Result<Tensor> {
        if !on_cpu(both) {
            let width = both.dim(1)? / 2;
            let [gate, up] = [0, width].map(|start| both.narrow(1, start, width));
            return self.gate(&gate?.contiguous()?, &up?.contiguous()?);
        }
        match self {
            Self::Silu => both.apply_op1_no_bwd(&Stacked(silu)),
            Self::GeluTanh => both.apply_op1_no_bwd(&Stacked(gelu_tanh)),
            Self::Gelu => both.apply_op1_no_bwd(&Stacked(gelu)),
            Self::Relu => both.apply_op1_no_bwd(&Stacked(relu)),
        }
    }

    /// `y = activation(x)`, elementwise, f32.
    pub fn apply(self, x: &Tensor) -> Result<Tensor> {
        if !on_cpu(x) {
            return self.composed(x);
        }
        match self {
            Self::Silu => x.apply_op1_no_bwd(&Map(silu)),
            Self::GeluTanh => x.apply_op1_no_bwd(&Map(gelu_tanh)),
            Self::Gelu => x.apply_op1_no_bwd(&Map(gelu)),
            Self::Relu => x.apply_op1_no_bwd(&Map(relu)),
        }
    }

    fn composed(self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Silu => x.silu(),
            Self::GeluTanh => x.gelu(),
            Self::Gelu => x.gelu_erf(),
            Self::Relu => x.relu(),
        }
    }
}

struct Map<F>(F);

impl<F: Fn(f32) -> f32 + Sync> CustomOp1 for Map<F> {
    fn name(&self) -> &'static str {
        "activation"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = contiguous(x, layout)?;
        let mut y = vec![0f32; x.len()];
        y.par_chunks_mut(ELEMENTS_PER_TASK)
            .zip(x.par_chunks(ELEMENTS_PER_TASK))
            .for_each(|(y, x)| {
                vectorized(|| {
                    for (y, &x) in y.iter_mut().zip(x) {
                        *y = (self.0)(x);
                    }
                });
            });
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }
}

struct Gate<F>(F);

impl<F: Fn(f32) -> f32 + Sync> CustomOp2 for Gate<F> {
    fn name(&self) -> &'static str {
        "gate"
    }

    fn cpu_fwd(
        &self,
        g: &CpuStorage,
        g_layout: &Layout,
        u: &CpuStorage,
        u_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (gate, up) = (contiguous(g, g_layout)?, contiguous(u, u_layout)?);
        let mut y = vec![0f32; gate.len()];
        y.par_chunks_mut(ELEMENTS_PER_TASK)
            .zip(
                gate.par_chunks(ELEMENTS_PER_TASK)
                    .zip(up.par_chunks(ELEMENTS_PER_TASK)),
            )
            .for_each(|(y, (gate, up))| {
                vectorized(|| {
                    for ((y, &g), &u) in y.iter_mut().zip(gate).zip(up) {
                        *y = (self.0)(g) * u;
                    }
                });
            });
        Ok((CpuStorage::F32(y), g_layout.shape().clone()))
    }
}

struct Stacked<F>(F);

impl<F: Fn(f32) -> f32 + Sync> CustomOp1 for Stacked<F> {
    fn name(&self) -> &'static str {
        "stacked-gate"
    }

    fn cpu_fwd(&self, both: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (rows, both_width) = layout.shape().dims2()?;
        let (both, width) = (contiguous(both, layout)?, both_width / 2);
        let mut y = vec![0f32; rows * width];
        y.par_chunks_mut(width * ROWS_PER_TASK)
            .zip(both.par_chunks(both_width * ROWS_PER_TASK))
            .for_each(|(y, both)| {
                vectorized(|| {
                    for (y, both) in y.chunks_exact_mut(width).zip(both.chunks_exact(both_width)) {
                        let (gate, up) = both.split_at(width);
                        for ((y, &g), &u) in y.iter_mut().zip(gate).zip(up) {
                            *y = (self.0)(g) * u;
                        }
                    }
                });
            });
        Ok((CpuStorage::F32(y), (rows, width).into()))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    const ALL: [Activation; 4] = [
        Activation::Silu,
        Activation::GeluTanh,
        Activation::Gelu,
        Activation::Relu,
    ];

    fn values(x: &Tensor) -> Vec<f32> {
        x.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn fused_and_composed_agree() {
        for activation in ALL {
            let gate = Tensor::randn(0f32, 3.0, (64, 700), &Device::Cpu).unwrap();
            let up = Tensor::randn(0f32, 1.0, (64, 700), &Device::Cpu).unwrap();
            let fused = values(&activation.gate(&gate, &up).unwrap());
            let both = Tensor::cat(&[&gate, &up], 1).unwrap();
            let stacked = activation.gate_stacked(&both).unwrap();
            assert_eq!(fused, values(&stacked), "{activation:?}");
            let alone = (activation.apply(&gate).unwrap() * &up).unwrap();
            assert_eq!(fused, values(&alone), "{activation:?}");
            let composed = values(&(activation.composed(&gate).unwrap() * up).unwrap());
            for (a, b) in fused.iter().zip(composed) {
                let close = (a - b).abs() <= 2e-6 * b.abs().max(1.0);
                assert!(close, "{activation:?}: {a} {b}");
            }
        }
    }

    #[test]
    fn extreme_gates_stay_finite_and_nan_is_kept() {
        for activation in ALL {
            let gate = [-1e30f32, -200.0, 0.0, 200.0, f32::NAN];
            let gate = Tensor::new(&gate, &Device::Cpu).unwrap();
            let up = gate.ones_like().unwrap();
            let y = values(&activation.gate(&gate, &up).unwrap());
            assert!(
                y[0].abs() < 1e-6
                    && y[1].abs() < 1e-30
                    && y[2].abs() < f32::MIN_POSITIVE
                    && (y[3] - 200.0).abs() < 1e-4
                    && y[4].is_nan(),
                "{activation:?}: {y:?}"
            );
        }
    }
}
