//! What removes whole parts of a model, so that a smaller dense one is left: one file each, and one row in [`STRUCTURES`].
//!
//! One pass over the dense model scores every part. Parts that compete with each other are ranked, and a sparsity removes
//! the lowest ones: `int(n · sparsity)` of n. Nothing that stays changes but its name.

mod blocks;
mod removal;

use std::fmt::Debug;

use serde::{Deserialize, Serialize};

pub use removal::remove;

use crate::error::{EngineError, Result};
use crate::handle::{Handle, Listed};
use crate::model::{BlockPlan, Decoder, ModelPlan};
use crate::observer::Observer;
use crate::targets::Misfit;
use crate::windows::TokenWindows;

/// Every structure.
pub const STRUCTURES: [StructureId; 1] = [Handle::new(&blocks::Blocks)];

/// The handle of a structure.
pub type StructureId = Handle<dyn Structure>;

/// A kind of part that is removed as a whole.
pub trait Structure: Debug + Sync {
    /// Its word in requests and reports.
    fn name(&self) -> &'static str;

    /// What it does, in one sentence.
    fn doc(&self) -> &'static str;

    /// Why none of its parts can be removed from a model, if none can.
    fn obstacle(&self, plan: &ModelPlan) -> Option<String>;

    /// Parts of a model that compete with each other.
    fn competing(&self, plan: &ModelPlan) -> usize;

    /// The fewest weights that go where so many of the competing parts do.
    fn least_weights(&self, plan: &ModelPlan, count: usize) -> u64;

    /// Multiplications of a token that scoring the parts of a block takes.
    fn observing_multiplications(&self, block: &BlockPlan) -> u64;

    /// Scores and ranks all parts in one pass over the dense model, with a block in memory at a time.
    fn rank(
        &self,
        decoder: &Decoder<'_>,
        windows: &TokenWindows,
        observer: &mut dyn Observer,
    ) -> Result<Vec<RankedPart>>;

    /// What is left where `count` of the competing parts go.
    fn rest(&self, decoder: &Decoder<'_>, parts: &[RankedPart], count: usize) -> Result<Rest>;
}

impl Listed for dyn Structure {
    const KIND: &'static str = "structure";

    fn all() -> &'static [StructureId] {
        &STRUCTURES
    }

    fn word(&self) -> &'static str {
        self.name()
    }
}

/// A part of the dense model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RankedPart {
    /// The module's name in the checkpoint.
    pub name: String,
    /// The lower, the less is lost without it.
    pub score: f64,
    /// Its place in the order in which competing parts go, from 0.
    pub rank: usize,
}

/// A model without some of its parts.
#[derive(Debug)]
pub struct Rest {
    /// The new name of each part; `None` = it is gone.
    pub names: Vec<Option<String>>,
    /// What `config.json` says then.
    pub config: Vec<u8>,
}

impl StructureId {
    /// How many of the competing parts of a model go at a sparsity.
    pub fn count(self, plan: &ModelPlan, sparsity: f64) -> usize {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a fraction of a small number, rounded down"
        )]
        let count = (self.competing(plan) as f64 * sparsity) as usize;
        count
    }

    /// Refuses what does not fit a model.
    pub fn check(self, plan: &ModelPlan, sparsity: f64) -> Result<()> {
        let misfit = self.misfits(plan, sparsity).into_iter().next();
        misfit.map_or(Ok(()), |misfit| Err(misfit.error))
    }

    /// Everything that does not fit a model.
    pub fn misfits(self, plan: &ModelPlan, sparsity: f64) -> Vec<Misfit> {
        let misfit = |part: &str, reason| Misfit {
            part: part.to_owned(),
            error: self.mismatch(reason),
        };
        let obstacle = self.obstacle(plan).map(|reason| misfit("method", reason));
        let (count, parts) = (self.count(plan, sparsity), self.competing(plan));
        let wrong = if count == 0 {
            Some(format!(
                "a sparsity of {sparsity} removes none of {parts}; the least that removes one is {}",
                1.0 / parts.max(1) as f64
            ))
        } else if count >= parts {
            Some(format!("a sparsity of {sparsity} removes all {parts}"))
        } else {
            None
        };
        // Where nothing can go, it does not matter how much should.
        let wrong = wrong.filter(|_| obstacle.is_none());
        let wrong = wrong.map(|reason| misfit("sparsity", reason));
        obstacle.into_iter().chain(wrong).collect()
    }

    fn mismatch(self, reason: String) -> EngineError {
        let structure = self.word();
        EngineError::StructureMismatch { structure, reason }
    }
}

/// Ranks scores, lowest first; of equal ones the first.
fn ranks(scores: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]));
    let mut ranks = vec![0; scores.len()];
    for (rank, part) in order.into_iter().enumerate() {
        ranks[part] = rank;
    }
    ranks
}

#[cfg(test)]
mod tests;
