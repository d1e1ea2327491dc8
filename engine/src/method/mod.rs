//! Pruning methods: one file each, and one row in [`METHODS`].

mod alps;
mod magnitude;
mod ria;
mod sparsegpt;
mod wanda;

use std::fmt::Debug;

pub use ria::Ria;

use super::checkpoint::Weights;
use super::error::{EngineError, Result};
use super::handle::{Handle, Listed};
use super::mask::Mask;
use super::model::LinearSpec;
use super::pattern::{ComparisonGroup, Goal, Score, choose};
use super::statistic::{InputStatistics, Statistic};

/// The handle of a method.
pub type MethodId = Handle<dyn Method>;

impl Listed for dyn Method {
    const KIND: &'static str = "method";

    fn all() -> &'static [MethodId] {
        &METHODS
    }

    fn word(&self) -> &'static str {
        self.name()
    }
}

impl Default for MethodId {
    fn default() -> Self {
        METHODS[0]
    }
}

/// Every method; the first one is the default.
pub const METHODS: [MethodId; 5] = [
    MethodId::new(&wanda::Wanda),
    MethodId::new(&magnitude::Magnitude),
    MethodId::new(&Ria),
    MethodId::new(&sparsegpt::SparseGpt),
    MethodId::new(&alps::Alps),
];

/// A way to prune one linear.
pub trait Method: Debug + Sync {
    /// Its word in requests and reports.
    fn name(&self) -> &'static str;

    /// What it does, in one sentence.
    fn doc(&self) -> &'static str;

    /// What it needs to know of a linear's input; calibration windows are read if there is anything.
    fn needs(&self) -> &'static [Statistic];

    /// Whose scores it compares by itself where the pattern is unstructured; `None` = it chooses by more than scores.
    fn group(&self) -> Option<ComparisonGroup> {
        None
    }

    /// Whether the kept weights stay as they are.
    fn only_zeroes(&self) -> bool {
        true
    }

    /// Whether it fits the kept weights to outputs of the dense model where inputs are paired with that one's.
    fn fits_pairs(&self) -> bool {
        false
    }

    /// Bytes that it needs besides the weights and what was observed, for a linear of this shape.
    fn working_bytes(&self, _d_out: u64, _d_in: u64) -> u64 {
        0
    }

    /// Multiplications for a linear of this shape that are worth counting beside those of the forward passes.
    fn multiplications(&self, _d_out: u64, _d_in: u64) -> u64 {
        0
    }

    /// Chooses the weights of a linear that become zero, and may change the others in place.
    fn prune(
        &self,
        weights: &mut Weights,
        linear: &LinearSpec,
        seen: &InputStatistics,
        goal: Goal,
    ) -> Result<Chosen>;
}

/// What a method chose for a linear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// Which weights become zero.
    pub mask: Mask,
    /// How often the damping of a matrix had to grow before it could be factored.
    pub damping_steps: usize,
}

impl From<Mask> for Chosen {
    fn from(mask: Mask) -> Self {
        Self {
            mask,
            damping_steps: 0,
        }
    }
}

/// The magnitude of a weight.
struct Absolute;

impl Score for Absolute {
    #[inline(always)]
    fn fill(&self, _row: usize, _column: usize, weights: &[f32], scores: &mut [f32]) {
        for (score, weight) in scores.iter_mut().zip(weights) {
            *score = weight.abs();
        }
    }
}

/// Chooses the weights of a linear with the lowest magnitudes, compared as the goal says, or else `among` those.
pub(crate) fn lowest_magnitudes(
    weights: &Weights,
    linear: &LinearSpec,
    goal: Goal,
    among: ComparisonGroup,
) -> Result<Chosen> {
    lowest(weights, linear, goal, among, &Absolute)
}

/// Chooses the weights of a linear with the lowest scores, compared as the goal says, or else `among` those.
fn lowest(
    weights: &Weights,
    linear: &LinearSpec,
    goal: Goal,
    among: ComparisonGroup,
    score: &impl Score,
) -> Result<Chosen> {
    let among = goal.group.unwrap_or(among);
    let mask = choose(weights, linear.d_in, goal, among, score);
    mask.map(Chosen::from).map_err(|_| EngineError::NonFinite {
        what: "scores",
        place: linear.name.clone(),
    })
}
