//! OWL: outlier weighed layerwise sparsity (arXiv 2310.05175).
//!
//! A block matters as much as it has outliers: weights, of all its linears together, whose Wanda score is more than
//! `threshold` times the mean score of the block. With the percentages `r` of outliers
//!
//! ```text
//! t = 2 lambda (r − min r) / (max r − min r)      sparsity of the block = s − (t − mean t)
//! ```
//!
//! Blocks with equally many outliers, where the original divides by zero, have the same sparsity.

use super::{
    Allocation, AllocationSpec, DenseBlock, LEAST, MOST, Parameter, ParameterKind, spread,
};
use crate::error::Result;
use crate::statistic::Statistic;

/// How far above the mean an outlier is: as in the original's program; its examples set 5.
const THRESHOLD: Parameter = Parameter {
    name: "threshold",
    doc: "A weight is an outlier whose score is more than so many times the mean of its block.",
    kind: ParameterKind::Number {
        range: 0.0..=1000.0,
        default: 3.0,
    },
};

/// Half the distance between the highest and the lowest sparsity.
const LAMBDA: Parameter = Parameter {
    name: "lambda",
    doc: "Half the distance between the highest and the lowest sparsity of a block.",
    kind: ParameterKind::Number {
        range: 0.0..=0.5,
        default: 0.08,
    },
};

/// Fewer zeros where there are more outliers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Owl;

impl Allocation for Owl {
    fn name(&self) -> &'static str {
        "owl"
    }

    fn doc(&self) -> &'static str {
        "Fewer zeros in blocks with more outliers among the Wanda scores (arXiv 2310.05175)."
    }

    fn parameters(&self) -> &'static [Parameter] {
        &[THRESHOLD, LAMBDA, LEAST, MOST]
    }

    fn needs(&self) -> &'static [Statistic] {
        &[Statistic::SumOfSquares]
    }

    /// The percentage of outliers.
    fn measure(&self, block: &DenseBlock<'_>, given: &AllocationSpec) -> Result<f64> {
        let mean = block.mean_score()?;
        Ok(100.0 * block.share_above(given.number(&THRESHOLD) * mean)?)
    }

    fn sparsities(
        &self,
        measured: &[f64],
        sparsity: f64,
        given: &AllocationSpec,
    ) -> Option<Vec<f64>> {
        let width = 2.0 * given.number(&LAMBDA);
        Some(spread(measured, width, sparsity))
    }
}
