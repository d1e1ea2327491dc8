//! Pruning methods: one file each, and one row in [`METHODS`].

mod id;
mod magnitude;
mod ria;
mod wanda;

use std::fmt::Debug;

pub use id::MethodId;
pub use ria::Ria;

use super::checkpoint::Weights;
use super::error::{EngineError, Result};
use super::mask::Mask;
use super::model::LinearSpec;
use super::pattern::{ComparisonGroup, Goal, Score, choose};
use super::statistic::{InputStatistics, Statistic};

/// Every method; the first one is the default.
pub const METHODS: [MethodId; 3] = [
    MethodId::new(&wanda::Wanda),
    MethodId::new(&magnitude::Magnitude),
    MethodId::new(&Ria::DEFAULT),
];

/// A way to prune one linear.
pub trait Method: Debug + Sync {
    /// Its word in requests and reports.
    fn name(&self) -> &'static str;

    /// What it does, in one sentence.
    fn doc(&self) -> &'static str;

    /// What it needs to know of a linear's input; calibration windows are read if there is anything.
    fn needs(&self) -> &'static [Statistic];

    /// Whether the kept weights stay as they are.
    fn only_zeroes(&self) -> bool {
        true
    }

    /// Chooses the weights of a linear that become zero, and may change the others in place.
    fn prune(
        &self,
        weights: &mut Weights,
        linear: &LinearSpec,
        seen: &InputStatistics,
        goal: Goal,
    ) -> Result<Mask>;
}

/// Chooses the weights of a linear with the lowest scores.
fn lowest(
    weights: &Weights,
    linear: &LinearSpec,
    goal: Goal,
    among: ComparisonGroup,
    score: &impl Score,
) -> Result<Mask> {
    choose(weights, linear.d_in, goal, among, score).map_err(|_| EngineError::NonFinite {
        what: "scores",
        place: linear.name.clone(),
    })
}
