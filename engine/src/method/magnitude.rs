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
        "`|W_ij|`; over the whole linear unless another comparison group is asked for."
    }

    fn needs(&self) -> &'static [Statistic] {
        &[]
    }

    fn group(&self) -> Option<ComparisonGroup> {
        Some(ComparisonGroup::Linear)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algebra::test_linear::{TestLinear, half};

    #[test]
    fn scores_are_compared_in_the_group_that_is_asked_for() {
        let problem = TestLinear::new(&[1.0; 4], &[1.0, 2.0, 3.0, 4.0, 10.0, 20.0, 30.0, 40.0], 4);
        let (rows, linear) = ([0, 1, 4, 5], [0, 1, 2, 3]);
        for (method, group, expected) in [
            ("magnitude", None, linear),
            ("magnitude", Some(ComparisonGroup::Row), rows),
            ("wanda", None, rows),
            ("wanda", Some(ComparisonGroup::Linear), linear),
        ] {
            let goal = Goal {
                group,
                ..half("unstructured")
            };
            let mask = problem.prune(method, goal).1.mask;
            let found: Vec<usize> = (0..8).filter(|at| mask.contains(at / 4, at % 4)).collect();
            assert_eq!(found, expected, "{method}, {group:?}");
        }
    }
}
