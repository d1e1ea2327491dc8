//! What can follow a method: a better mask of the same count, and fitted weights on a fixed mask.
//!
//! One file each; those that change the mask have a row in [`REFINEMENTS`].

mod dsnot;
mod refit;
mod scaled;
mod swaps;

use std::fmt::Debug;

pub use dsnot::Dsnot;
pub(crate) use refit::{refit, refit_multiplications};
pub(crate) use scaled::ScaledGram;

use crate::error::Result;
use crate::handle::{Handle, Listed};
use crate::mask::Mask;
use crate::pattern::Pattern;
use crate::statistic::{InputStatistics, Statistic};

/// Every refinement.
pub const REFINEMENTS: [RefinementId; 2] =
    [Handle::new(&swaps::Swaps), Handle::new(&Dsnot::DEFAULT)];

/// The handle of a refinement.
pub type RefinementId = Handle<dyn Refinement>;

/// A way to change a mask and keep its count and its pattern.
pub trait Refinement: Debug + Sync {
    /// Its word in requests and reports.
    fn name(&self) -> &'static str;

    /// What it does, in one sentence.
    fn doc(&self) -> &'static str;

    /// What it needs to know of a linear's input.
    fn needs(&self) -> &'static [Statistic];

    /// Multiplications for a linear of this shape, at most.
    fn multiplications(&self, d_out: u64, d_in: u64) -> u64;

    /// Changes the mask of a linear with these dense weights, `[d_out, d_in]`.
    fn refine(
        &self,
        mask: &mut Mask,
        dense: &[f32],
        seen: &InputStatistics,
        pattern: Pattern,
    ) -> Result<()>;
}

impl Listed for dyn Refinement {
    const KIND: &'static str = "refinement";

    fn all() -> &'static [RefinementId] {
        &REFINEMENTS
    }

    fn word(&self) -> &'static str {
        self.name()
    }
}
