//! How zeros are shared among blocks: one file each, and one row in [`ALLOCATIONS`].
//!
//! An allocation says which sparsity each block should have. All of them are shifted by one number, within the limits,
//! until the zeros of all blocks are as many as were asked for, to the weight; then the zeros of each block are divided
//! among its linears by their sizes.

mod budget;
mod dlp;
mod owl;
mod scores;
mod spec;
mod table;
mod uniform;

use std::fmt::Debug;

pub(crate) use budget::share;
pub use scores::DenseBlock;
pub use spec::{AllocationSpec, Parameter, ParameterKind, ParameterValue};

use super::error::Result;
use super::handle::{Handle, Listed};
use super::statistic::Statistic;

/// Every allocation; the first one is the default.
pub const ALLOCATIONS: [AllocationId; 4] = [
    Handle::new(&uniform::Uniform),
    Handle::new(&owl::Owl),
    Handle::new(&dlp::Dlp),
    Handle::new(&table::Table),
];

/// The handle of an allocation.
pub type AllocationId = Handle<dyn Allocation>;

/// A way to share zeros among blocks.
pub trait Allocation: Debug + Sync {
    /// Its word in requests and reports.
    fn name(&self) -> &'static str;

    /// What it does, in one sentence.
    fn doc(&self) -> &'static str;

    /// What can be set.
    fn parameters(&self) -> &'static [Parameter] {
        &[]
    }

    /// What it needs to know of the inputs of the dense model's linears.
    fn needs(&self) -> &'static [Statistic] {
        &[]
    }

    /// The number that it goes by, of a dense block that was observed.
    fn measure(&self, _block: &DenseBlock<'_>, _given: &AllocationSpec) -> Result<f64> {
        Ok(0.0)
    }

    /// The sparsity that each block should have, by what was measured; `None` = every linear goes by its own goal.
    fn sparsities(
        &self,
        measured: &[f64],
        sparsity: f64,
        given: &AllocationSpec,
    ) -> Option<Vec<f64>>;

    /// The parameter that does not fit blocks with so many weights to share, and why.
    fn misfit(
        &self,
        _weights: &[u64],
        _sparsity: f64,
        _given: &AllocationSpec,
    ) -> Option<(&'static str, String)> {
        None
    }
}

impl Listed for dyn Allocation {
    const KIND: &'static str = "allocation";

    fn all() -> &'static [AllocationId] {
        &ALLOCATIONS
    }

    fn word(&self) -> &'static str {
        self.name()
    }
}

/// The lowest sparsity of a block.
const LEAST: Parameter = Parameter {
    name: "min_sparsity",
    doc: "The lowest sparsity of a block.",
    kind: ParameterKind::Number {
        range: 0.0..=1.0,
        default: 0.0,
    },
};

/// The highest sparsity of a block.
const MOST: Parameter = Parameter {
    name: "max_sparsity",
    doc: "The highest sparsity of a block.",
    kind: ParameterKind::Number {
        range: 0.0..=1.0,
        default: 0.99,
    },
};

/// Sparsities that lie `width` apart at most: the block that matters most gets the lowest. Their mean is `sparsity`.
fn spread(importance: &[f64], width: f64, sparsity: f64) -> Vec<f64> {
    let least = importance.iter().copied().fold(f64::INFINITY, f64::min);
    let most = importance.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let share = |value: f64| {
        if most > least {
            width * (value - least) / (most - least)
        } else {
            0.0
        }
    };
    let mean = importance.iter().map(|&value| share(value)).sum::<f64>() / importance.len() as f64;
    let shares = importance.iter().map(|&value| share(value));
    shares.map(|share| sparsity - (share - mean)).collect()
}

#[cfg(test)]
mod tests;
