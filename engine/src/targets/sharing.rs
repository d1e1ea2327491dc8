//! How the zeros of all blocks are shared among them and their linears.

use super::{Misfit, Targets};
use crate::allocation::share;
use crate::error::{EngineError, Result};
use crate::model::ModelPlan;
use crate::pattern::zeros_of;

impl Targets {
    /// Divides the zeros of a block among linears of so many weights.
    pub(super) fn divide(&self, weights: &[u64], zeros: u64) -> Result<Vec<u64>> {
        let wanted = vec![self.goal.sparsity; weights.len()];
        share(&wanted, weights, &(0.0..=1.0), zeros)
            .ok_or_else(|| self.unmet(format!("a block has no {zeros} weights that no rule names")))
    }

    /// The zeros of each block by what was measured of it; `None` = every linear goes by its own goal.
    pub(crate) fn shared(&self, plan: &ModelPlan, measured: &[f64]) -> Result<Option<Vec<u64>>> {
        let Self {
            goal, allocation, ..
        } = self;
        let wanted = allocation
            .kind
            .sparsities(measured, goal.sparsity, allocation);
        let Some(wanted) = wanted else {
            return Ok(None);
        };
        let weights = self.free_weights(plan)?;
        let zeros = share(
            &wanted,
            &weights,
            &allocation.limits(),
            self.budget(&weights),
        );
        zeros.map(Some).ok_or_else(|| self.beyond_limits())
    }

    /// Zeros that are shared, of blocks with so many weights to share.
    fn budget(&self, weights: &[u64]) -> u64 {
        let all: u64 = weights.iter().sum();
        #[expect(
            clippy::cast_possible_truncation,
            reason = "weights of a model in memory"
        )]
        let all = all as usize;
        zeros_of(all, self.goal.sparsity) as u64
    }

    /// Weights of each block that no rule names.
    fn free_weights(&self, plan: &ModelPlan) -> Result<Vec<u64>> {
        let mut rules = self.rule_of_each(plan)?.into_iter();
        let blocks = plan.blocks.iter().map(|block| {
            let linears = block.linears.iter().zip(rules.by_ref());
            let free = linears.filter(|(_, rule)| rule.is_none());
            free.map(|(linear, _)| linear.weights()).sum()
        });
        Ok(blocks.collect())
    }

    fn unmet(&self, reason: String) -> EngineError {
        EngineError::AllocationMismatch {
            allocation: self.allocation.kind.name(),
            reason,
        }
    }

    fn beyond_limits(&self) -> EngineError {
        let (limits, sparsity) = (self.allocation.limits(), self.goal.sparsity);
        let (least, most) = (limits.start(), limits.end());
        self.unmet(format!(
            "blocks of a sparsity within {least} and {most} cannot make one of {sparsity}"
        ))
    }

    /// What of the allocation does not fit a model.
    pub(super) fn unmet_allocation(&self, plan: &ModelPlan) -> Result<Option<Misfit>> {
        if self.allocation.is_uniform() {
            return Ok(None);
        }
        let weights = self.free_weights(plan)?;
        let allocation = |error| Misfit {
            part: "allocation".to_owned(),
            error,
        };
        if weights.iter().all(|&weights| weights == 0) {
            let reason = "the rules name every linear, none is left to share zeros".to_owned();
            return Ok(Some(allocation(self.unmet(reason))));
        }
        let (kind, sparsity) = (self.allocation.kind, self.goal.sparsity);
        if let Some((parameter, reason)) = kind.misfit(&weights, sparsity, &self.allocation) {
            return Ok(Some(Misfit {
                part: format!("allocation/{parameter}"),
                error: self.unmet(reason),
            }));
        }
        let even = vec![sparsity; weights.len()];
        let possible = share(
            &even,
            &weights,
            &self.allocation.limits(),
            self.budget(&weights),
        );
        Ok(possible.is_none().then(|| allocation(self.beyond_limits())))
    }
}
