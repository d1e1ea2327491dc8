//! What is done to each linear.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::algebra::layer_error;
use crate::checkpoint::Weights;
use crate::error::{EngineError, Result};
use crate::method::{Chosen, METHODS, MethodId, lowest_magnitudes};
use crate::model::{BlockPlan, LinearSpec};
use crate::pattern::{ComparisonGroup, Goal, Pattern};
use crate::prune::Propagation;
use crate::refine::{RefinementId, refit, refit_multiplications};
use crate::statistic::{InputStatistics, Statistic};

/// A method, and what follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recipe {
    /// Chooses the weights that become zero.
    pub method: MethodId,
    /// Whose scores it compares where the pattern is unstructured; `None` = as it does by itself.
    pub group: Option<ComparisonGroup>,
    /// Changes which ones.
    pub refine: Option<RefinementId>,
    /// Whether the kept weights are fitted to the dense outputs.
    pub refit: bool,
    /// Where the inputs come from that it goes by.
    pub propagation: Propagation,
}

/// Two parts of a recipe that do not go together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contradiction {
    /// The field that one of them is asked for by.
    pub part: &'static str,
    /// What is wrong.
    pub detail: String,
}

/// A linear after a recipe.
pub(crate) struct Pruned {
    pub(crate) weights: Weights,
    pub(crate) outcome: LinearOutcome,
}

/// How a linear came out whose input was observed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LinearOutcome {
    /// Calibration tokens that its input was observed on. Without any, as an expert can be, its weights were chosen by
    /// their magnitudes.
    pub input_tokens: u64,
    /// `‖(W − W′)X‖² / ‖WX‖²` on these tokens, `W` dense and `W′` pruned; `None` where their Gram matrix is not known.
    pub layer_error: Option<f64>,
    /// The same before the kept weights were fitted; `None` where they were not.
    pub layer_error_before_refit: Option<f64>,
    /// How often the damping of a matrix had to grow before it could be factored.
    pub damping_steps: usize,
}

impl From<MethodId> for Recipe {
    /// The method alone.
    fn from(method: MethodId) -> Self {
        Self {
            method,
            group: None,
            refine: None,
            refit: false,
            propagation: Propagation::default(),
        }
    }
}

impl Recipe {
    /// What it needs to know of a linear's input.
    pub fn needs(self) -> Vec<Statistic> {
        let refine = self.refine.map_or(&[] as &[_], |refine| refine.needs());
        let refit: &[_] = if self.refit { &[Statistic::Gram] } else { &[] };
        [self.method.needs(), refine, refit].concat()
    }

    /// Why its parts do not go together, if they do not.
    pub fn contradiction(self) -> Option<Contradiction> {
        let (method, propagation) = (self.method, self.propagation);
        if let Some(refine) = self.refine.filter(|_| !method.only_zeroes()) {
            let fits = "fits the kept weights to its own mask";
            return Some(Contradiction {
                part: "refine",
                detail: format!("{refine} changes masks, and {method} {fits}"),
            });
        }
        if self.group.is_some() && method.group().is_none() {
            let ranked = METHODS.iter().filter(|method| method.group().is_some());
            let ranked: Vec<_> = ranked.map(|method| method.name()).collect();
            return Some(Contradiction {
                part: "group",
                detail: format!(
                    "{method} chooses by more than scores; a comparison group is for {}",
                    ranked.join(", ")
                ),
            });
        }
        let is_fitted = self.refit || method.fits_pairs();
        if propagation != Propagation::default() && !self.needs_calibration() {
            return Some(Contradiction {
                part: "propagation",
                detail: format!("{method} reads no inputs, so none are {propagation}"),
            });
        }
        (propagation == Propagation::Paired && !is_fitted).then(|| Contradiction {
            part: "propagation",
            detail: format!("{propagation} inputs are for fitted weights: {method} needs a refit"),
        })
    }

    /// Why it does not go together with a pattern, if it does not.
    pub fn contradiction_with(self, pattern: Pattern) -> Option<Contradiction> {
        let group = self.group.filter(|_| pattern.implied_sparsity().is_some());
        group.map(|group| Contradiction {
            part: "group",
            detail: format!(
                "{pattern} compares the weights of each of its groups, not those of a {group}"
            ),
        })
    }

    /// Whether it reads calibration windows.
    pub fn needs_calibration(self) -> bool {
        !self.needs().is_empty()
    }

    /// Whether the kept weights stay as they are.
    pub(crate) fn only_zeroes(self) -> bool {
        self.method.only_zeroes() && !self.refit
    }

    /// The outcome of a linear whose outputs stay as they are.
    pub(crate) fn outcome_of_dense(self, seen: &InputStatistics) -> LinearOutcome {
        LinearOutcome {
            input_tokens: seen.n_tokens(),
            layer_error: self.needs().contains(&Statistic::Gram).then_some(0.0),
            layer_error_before_refit: self.refit.then_some(0.0),
            damping_steps: 0,
        }
    }

    /// Bytes that are needed to prune a block, besides its weights and its inputs.
    pub fn working_bytes(self, block: &BlockPlan) -> u64 {
        const F32: u64 = size_of::<f32>() as u64;
        let square = |width: u64| F32 * width * width;
        let gram = self.needs().contains(&Statistic::Gram);
        let grams: u64 = block.inputs.iter().map(|&width| square(width as u64)).sum();
        let grams = match self.propagation {
            // The products with the dense inputs, what the residual stream is ahead, and the dense block.
            Propagation::Paired => 2 * grams + F32 * (block.residual_weights() + block.weights()),
            Propagation::Pruned | Propagation::Dense => grams,
        };
        let of_linear = |linear: &LinearSpec| {
            let method = self
                .method
                .working_bytes(linear.d_out as u64, linear.d_in as u64);
            // The scaled Gram matrix and the fitted weights.
            let refit = square(linear.d_in as u64) + F32 * linear.weights();
            // The dense weights.
            let dense = F32 * linear.weights();
            let refit = if self.refit { refit } else { 0 };
            method.max(refit) + if gram { dense } else { 0 }
        };
        let linears = block.linears.iter().map(of_linear).max();
        linears.unwrap_or_default() + if gram { grams } else { 0 }
    }

    /// Multiplications that choose and fit the weights of a block whose statistics are there.
    pub fn multiplications(self, block: &BlockPlan) -> u64 {
        let of_linear = |linear: &LinearSpec| {
            let (d_out, d_in) = (linear.d_out as u64, linear.d_in as u64);
            let refine = self.refine.map_or(0, |it| it.multiplications(d_out, d_in));
            let refit = if self.refit {
                refit_multiplications(d_out, d_in)
            } else {
                0
            };
            let method = self.method.multiplications(d_out, d_in);
            method.saturating_add(refine).saturating_add(refit)
        };
        let linears = block.linears.iter().map(of_linear);
        linears.fold(0, u64::saturating_add)
    }

    /// Multiplications of a token that the statistics of a block take, which need it to the end where it is not the `last`.
    pub fn observing_multiplications(self, block: &BlockPlan, is_last: bool) -> u64 {
        if !self.needs_calibration() {
            return 0;
        }
        let all = block.weights_per_token();
        let passes = match self.propagation {
            Propagation::Pruned | Propagation::Dense => all * if is_last { 1 } else { 2 },
            Propagation::Paired => {
                // Each stream passes them once for what is behind, and once more when they are pruned.
                let of_stream = if is_last {
                    all - block.mlp_weights_per_token(|mlp| std::iter::once(mlp.down))
                } else {
                    all + block.mlp_weights_per_token(|mlp| mlp.up.linears())
                };
                2 * of_stream
            }
        };
        passes + self.gram_multiplications(block)
    }

    /// Half a matrix, as it is symmetric; that of two streams is none.
    fn gram_multiplications(self, block: &BlockPlan) -> u64 {
        if !self.needs().contains(&Statistic::Gram) {
            return 0;
        }
        let squares: u64 = block
            .inputs
            .iter()
            .map(|&width| (width as u64).pow(2))
            .sum();
        let of_pairs = match self.propagation {
            Propagation::Pruned | Propagation::Dense => 0,
            Propagation::Paired => squares + block.residual_weights(),
        };
        squares / 2 + of_pairs
    }

    /// Prunes the weights of a linear.
    pub(crate) fn prune(
        self,
        mut weights: Weights,
        linear: &LinearSpec,
        seen: &InputStatistics,
        goal: Goal,
    ) -> Result<Pruned> {
        if self.needs_calibration() && seen.n_tokens() == 0 {
            return self.prune_unseen(weights, linear, seen, goal);
        }
        let gram = self.needs().contains(&Statistic::Gram);
        let gram = gram.then(|| seen.gram()).transpose()?;
        let dense = (gram.is_some() || self.refine.is_some()).then(|| weights.clone().into_f32());
        let Chosen {
            mut mask,
            damping_steps,
        } = {
            let goal = self.in_group(goal);
            self.method.prune(&mut weights, linear, seen, goal)?
        };
        if let Some((refine, dense)) = self.refine.zip(dense.as_ref()) {
            refine.refine(&mut mask, dense, seen, goal.pattern)?;
        }
        mask.apply(&mut weights);
        let mut outcome = LinearOutcome {
            input_tokens: seen.n_tokens(),
            layer_error: None,
            layer_error_before_refit: None,
            damping_steps,
        };
        if let Some((dense, gram)) = dense.zip(gram) {
            let refitted = self
                .refit
                .then(|| refit(&dense, &mut weights, &mask, gram, seen.pairing()));
            outcome.layer_error = Some(refitted.map_or_else(
                || layer_error(&dense, &weights, gram),
                |refitted| refitted.after,
            ));
            outcome.layer_error_before_refit = refitted.map(|refitted| refitted.before);
        }
        if outcome.layer_error.is_some_and(|error| !error.is_finite()) {
            return Err(EngineError::NonFinite {
                what: "weights",
                place: linear.name.clone(),
            });
        }
        Ok(Pruned { weights, outcome })
    }

    /// Prunes the weights of a linear whose input was never seen: all scores would be 0, so their magnitudes are compared,
    /// in the groups in which the method compares scores, and the kept weights stay.
    fn prune_unseen(
        self,
        mut weights: Weights,
        linear: &LinearSpec,
        seen: &InputStatistics,
        goal: Goal,
    ) -> Result<Pruned> {
        let among = self.method.group().unwrap_or(ComparisonGroup::Linear);
        let chosen = lowest_magnitudes(&weights, linear, self.in_group(goal), among)?;
        chosen.mask.apply(&mut weights);
        Ok(Pruned {
            weights,
            outcome: self.outcome_of_dense(seen),
        })
    }

    /// The goal with the comparison group that is asked for, where the pattern has none of its own.
    fn in_group(self, goal: Goal) -> Goal {
        let is_free = goal.pattern.implied_sparsity().is_none();
        let group = self.group.filter(|_| is_free);
        Goal { group, ..goal }
    }
}

impl fmt::Display for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.method)?;
        if let Some(group) = self.group {
            write!(f, " + per-{group}")?;
        }
        if let Some(refine) = self.refine {
            write!(f, " + {refine}")?;
        }
        if self.refit {
            f.write_str(" + refit")?;
        }
        if self.propagation != Propagation::default() {
            write!(f, " + {}", self.propagation)?;
        }
        Ok(())
    }
}
