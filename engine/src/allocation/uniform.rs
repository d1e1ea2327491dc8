//! The same sparsity everywhere.

use super::{Allocation, AllocationSpec};

/// Every linear has the sparsity that is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Uniform;

impl Allocation for Uniform {
    fn name(&self) -> &'static str {
        "uniform"
    }

    fn doc(&self) -> &'static str {
        "The same sparsity for every linear."
    }

    fn sparsities(
        &self,
        _measured: &[f64],
        _sparsity: f64,
        _given: &AllocationSpec,
    ) -> Option<Vec<f64>> {
        None
    }
}
