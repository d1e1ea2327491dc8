//! The statistics of all inputs of one block.

use candle_core::Tensor;

use super::{InputStatistics, Pairing, Statistic};
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

    /// Collects `wanted` of every input, and how it is paired with that of the dense model. Inputs of linears that
    /// write into the residual stream are paired with how far the dense model is ahead.
    pub(crate) fn pairing(
        wanted: &[Statistic],
        block: &BlockPlan,
        hidden: usize,
        n_windows: usize,
    ) -> Self {
        let residual: Vec<_> = block
            .residual_linears()
            .map(|linear| linear.input)
            .collect();
        let Self(inputs) = Self::collecting(wanted, block, n_windows);
        let paired = inputs.into_iter().zip(&block.inputs).enumerate();
        Self(
            paired
                .map(|(at, (seen, &d_in))| {
                    let hidden = residual.contains(&InputId(at)).then_some(hidden);
                    seen.paired(Pairing::new(d_in, hidden))
                })
                .collect(),
        )
    }

    /// In windows of so many tokens.
    pub(crate) fn in_windows_of(self, seq_len: usize) -> Self {
        let Self(inputs) = self;
        let inputs = inputs.into_iter();
        Self(inputs.map(|seen| seen.in_windows_of(seq_len)).collect())
    }

    /// Adds the tokens of an input in the pruned model, in the dense one, and how far that one is ahead: these rows of a
    /// batch, or all.
    pub(crate) fn add_pair(
        &mut self,
        input: InputId,
        pair: [&Tensor; 2],
        ahead: Option<&Tensor>,
        rows: Option<&[u32]>,
    ) -> Result<()> {
        let [pruned, dense] = pair;
        self.0[input.0].add_pair(pruned, dense, ahead, rows)
    }

    /// Adds the tokens `[n, d_in]` of an input: these rows of a batch, or all.
    pub(crate) fn add(&mut self, input: InputId, x: &Tensor, rows: Option<&[u32]>) -> Result<()> {
        self.0[input.0].add_rows(x, rows)
    }

    /// The statistics of an input.
    pub fn of(&self, input: InputId) -> &InputStatistics {
        &self.0[input.0]
    }

    /// Ends the collection of an input; refuses NaN and infinity. They stay in a sum, so one look is enough.
    pub(crate) fn finish(&mut self, block: &BlockPlan, input: InputId) -> Result<()> {
        self.0[input.0].finish();
        if self.of(input).is_finite() {
            return Ok(());
        }
        let mut linears = block.linears.iter();
        let linear = linears.find(|linear| linear.input == input);
        Err(EngineError::NonFinite {
            what: "activations",
            place: linear.map_or_else(String::new, |linear| linear.name.clone()),
        })
    }
}
