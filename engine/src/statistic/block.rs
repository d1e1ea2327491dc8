//! The statistics of all inputs of one block.

use candle_core::Tensor;

use super::{InputStatistics, Statistic};
use crate::error::{EngineError, Result};
use crate::model::{BlockPlan, InputId};

/// What was collected of each input of a block's linears.
#[derive(Debug)]
pub struct BlockStatistics(Vec<InputStatistics>);

impl BlockStatistics {
    /// Collects `wanted` of every input of `block` over `n_windows` windows.
    pub(crate) fn collecting(wanted: &[Statistic], block: &BlockPlan, n_windows: usize) -> Self {
        let widths = block.inputs.iter();
        Self(
            widths
                .map(|&d_in| InputStatistics::collecting(wanted, d_in, n_windows))
                .collect(),
        )
    }

    /// Adds the tokens `[n_tokens, d_in]` of an input.
    pub(crate) fn add(&mut self, input: InputId, x: &Tensor) -> Result<()> {
        self.0[input.0].add(x)
    }

    /// The statistics of an input.
    pub fn of(&self, input: InputId) -> &InputStatistics {
        &self.0[input.0]
    }

    /// Ends the collection; refuses NaN and infinity. They stay in a sum, so one look per block is enough.
    pub(crate) fn finish(&mut self, block: &BlockPlan) -> Result<()> {
        self.0.iter_mut().for_each(InputStatistics::finish);
        let mut linears = block.linears.iter();
        match linears.find(|linear| !self.of(linear.input).is_finite()) {
            Some(linear) => Err(EngineError::NonFinite {
                what: "activations",
                place: linear.name.clone(),
            }),
            None => Ok(()),
        }
    }
}
