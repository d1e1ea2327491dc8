//! Wanda: weights and activations (arXiv 2306.11695).

use super::{Chosen, Method, lowest};
use crate::checkpoint::Weights;
use crate::error::Result;
use crate::model::LinearSpec;
use crate::pattern::{ComparisonGroup, Goal, Score};
use crate::statistic::{InputStatistics, Statistic};

/// `|W_ij| · ‖X_j‖₂`, compared within each output row (equation 1).
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanda;

impl Method for Wanda {
    fn name(&self) -> &'static str {
        "wanda"
    }

    fn doc(&self) -> &'static str {
        "`|W_ij| · ‖X_j‖₂` within each output row (arXiv 2306.11695, eq. 1)."
    }

    fn needs(&self) -> &'static [Statistic] {
        &[Statistic::SumOfSquares]
    }

    fn group(&self) -> Option<ComparisonGroup> {
        Some(ComparisonGroup::Row)
    }

    fn prune(
        &self,
        weights: &mut Weights,
        linear: &LinearSpec,
        seen: &InputStatistics,
        goal: Goal,
    ) -> Result<Chosen> {
        let score = TimesNorm(&seen.sum_of_squares()?.norms());
        lowest(weights, linear, goal, ComparisonGroup::Row, &score)
    }
}

/// The magnitude times the norm of its input feature.
pub(crate) struct TimesNorm<'a>(pub(crate) &'a [f32]);

impl Score for TimesNorm<'_> {
    #[inline(always)]
    fn fill(&self, _row: usize, column: usize, weights: &[f32], scores: &mut [f32]) {
        let norms = &self.0[column..][..weights.len()];
        for ((score, weight), norm) in scores.iter_mut().zip(weights).zip(norms) {
            *score = weight.abs() * norm;
        }
    }
}
