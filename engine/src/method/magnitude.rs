//! Magnitude pruning, the baseline of the Wanda paper.

use super::{Absolute, Chosen, Method, lowest};
use crate::checkpoint::Weights;
use crate::error::Result;
use crate::model::LinearSpec;
use crate::pattern::{ComparisonGroup, Goal};
use crate::statistic::{InputStatistics, Statistic};

/// `|W_ij|`, compared over the whole linear or within groups.
#[derive(Debug, Clone, Copy)]
pub(super) struct Magnitude;

impl Method for Magnitude {
    fn name(&self) -> &'static str {
        "magnitude"
    }

    fn doc(&self) -> &'static str {
        "`|W_ij|` over the whole linear."
    }

    fn needs(&self) -> &'static [Statistic] {
        &[]
    }

    fn prune(
        &self,
        weights: &mut Weights,
        linear: &LinearSpec,
        _seen: &InputStatistics,
        goal: Goal,
    ) -> Result<Chosen> {
        lowest(weights, linear, goal, ComparisonGroup::Linear, &Absolute)
    }
}
