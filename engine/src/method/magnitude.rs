//! Magnitude pruning, the baseline of the Wanda paper.

use super::{Method, lowest};
use crate::checkpoint::Weights;
use crate::error::Result;
use crate::mask::Mask;
use crate::model::LinearSpec;
use crate::pattern::{ComparisonGroup, Goal, Score};
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
    ) -> Result<Mask> {
        lowest(weights, linear, goal, ComparisonGroup::Linear, &Absolute)
    }
}

struct Absolute;

impl Score for Absolute {
    #[inline(always)]
    fn fill(&self, _row: usize, _column: usize, weights: &[f32], scores: &mut [f32]) {
        for (score, weight) in scores.iter_mut().zip(weights) {
            *score = weight.abs();
        }
    }
}
