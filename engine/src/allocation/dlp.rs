//! DLP: dynamic layerwise pruning (arXiv 2505.23807), as its authors' program does it.
//!
//! With the mean Wanda score `m` of all weights of a block, its importance is `1 − m / Σ m`: a block with high scores
//! becomes sparser. As in OWL, the importances are stretched to a distance of `2 alpha`, and the mean is kept. The paper
//! describes the median of the scores where the program takes the mean.

use super::{
    Allocation, AllocationSpec, DenseBlock, LEAST, MOST, Parameter, ParameterKind, spread,
};
use crate::error::Result;
use crate::statistic::Statistic;

/// Half the distance between the highest and the lowest sparsity; as in the examples of the original.
const ALPHA: Parameter = Parameter {
    name: "alpha",
    doc: "Half the distance between the highest and the lowest sparsity of a block.",
    kind: ParameterKind::Number {
        range: 0.0..=0.5,
        default: 0.15,
    },
};

/// More zeros where scores are higher.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dlp;

impl Allocation for Dlp {
    fn name(&self) -> &'static str {
        "dlp"
    }

    fn doc(&self) -> &'static str {
        "More zeros in blocks with a higher mean Wanda score (arXiv 2505.23807, as its program does it)."
    }

    fn parameters(&self) -> &'static [Parameter] {
        &[ALPHA, LEAST, MOST]
    }

    fn needs(&self) -> &'static [Statistic] {
        &[Statistic::SumOfSquares]
    }

    /// The mean score.
    fn measure(&self, block: &DenseBlock<'_>, _given: &AllocationSpec) -> Result<f64> {
        block.mean_score()
    }

    fn sparsities(
        &self,
        measured: &[f64],
        sparsity: f64,
        given: &AllocationSpec,
    ) -> Option<Vec<f64>> {
        let all: f64 = measured.iter().sum();
        let importance: Vec<f64> = measured.iter().map(|score| 1.0 - score / all).collect();
        let width = 2.0 * given.number(&ALPHA);
        Some(spread(&importance, width, sparsity))
    }
}
