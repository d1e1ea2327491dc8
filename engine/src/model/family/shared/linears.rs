//! The linears of a block, as they are made for a plan.

use crate::model::plan::{InputId, LinearId, LinearSpec};

/// Collects the linears of a block in the order of the computation.
pub(in crate::model::family) struct Linears<'a> {
    pub(in crate::model::family) prefix: &'a str,
    pub(in crate::model::family) specs: Vec<LinearSpec>,
    pub(in crate::model::family) inputs: Vec<usize>,
}

impl<'a> Linears<'a> {
    pub(in crate::model::family) fn new(prefix: &'a str) -> Self {
        Self {
            prefix,
            specs: Vec::new(),
            inputs: Vec::new(),
        }
    }

    /// A linear that is the first to see an input, of `d_in` features.
    pub(in crate::model::family) fn of_next_input(
        &mut self,
        d_in: usize,
        name: &str,
        d_out: usize,
        has_bias: bool,
    ) -> LinearId {
        self.inputs.push(d_in);
        self.of_same_input(name, d_out, has_bias)
    }

    /// A linear that sees the input of the one before it.
    pub(in crate::model::family) fn of_same_input(
        &mut self,
        name: &str,
        d_out: usize,
        has_bias: bool,
    ) -> LinearId {
        let input = self.inputs.len() - 1;
        self.specs.push(LinearSpec {
            name: format!("{}.{name}", self.prefix),
            d_out,
            d_in: self.inputs[input],
            has_bias,
            input: InputId(input),
        });
        LinearId(self.specs.len() - 1)
    }
}
