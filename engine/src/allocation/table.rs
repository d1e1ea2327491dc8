//! A list of sparsities, one for each block.

use super::{Allocation, AllocationSpec, Parameter, ParameterKind};

/// How far the list may be from the sparsity that is asked for besides.
const TOLERANCE: f64 = 0.001;

const SPARSITIES: Parameter = Parameter {
    name: "sparsities",
    doc: "The sparsity of each block, in [0, 1); by weights their mean is `sparsity`, to within 0.001.",
    kind: ParameterKind::Fractions,
};

/// The sparsities that a user lists.
#[derive(Debug, Clone, Copy)]
pub(super) struct Table;

impl Allocation for Table {
    fn name(&self) -> &'static str {
        "table"
    }

    fn doc(&self) -> &'static str {
        "A list of sparsities, one for each block."
    }

    fn parameters(&self) -> &'static [Parameter] {
        &[SPARSITIES]
    }

    fn sparsities(
        &self,
        _measured: &[f64],
        _sparsity: f64,
        given: &AllocationSpec,
    ) -> Option<Vec<f64>> {
        Some(given.fractions(&SPARSITIES).to_vec())
    }

    fn misfit(
        &self,
        weights: &[u64],
        sparsity: f64,
        given: &AllocationSpec,
    ) -> Option<(&'static str, String)> {
        let listed = given.fractions(&SPARSITIES);
        let wrong = |detail| Some((SPARSITIES.name, detail));
        if listed.len() != weights.len() {
            let (listed, blocks) = (listed.len(), weights.len());
            return wrong(format!(
                "it lists {listed} sparsities, the model has {blocks} blocks"
            ));
        }
        let zeros = listed.iter().zip(weights);
        let zeros: f64 = zeros
            .map(|(sparsity, &weights)| sparsity * weights as f64)
            .sum();
        let mean = zeros / weights.iter().sum::<u64>() as f64;
        if (mean - sparsity).abs() <= TOLERANCE {
            return None;
        }
        wrong(format!(
            "its sparsities make {mean:.4} of all weights zero, and {sparsity} was asked for"
        ))
    }
}
