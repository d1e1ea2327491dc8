//! How many weights of which linear become zero, and where.

mod rule;
mod sharing;

pub use rule::LinearRule;

use super::allocation::AllocationSpec;
use super::error::{EngineError, Result};
use super::model::{LinearSpec, ModelPlan};
use super::pattern::Goal;
use super::recipe::Contradiction;

/// What is asked of all linears.
#[derive(Debug, Clone, PartialEq)]
pub struct Targets {
    /// Of those that no rule names.
    pub goal: Goal,
    /// Of those that one names; the first that does counts.
    pub rules: Vec<LinearRule>,
    /// How the zeros of those that no rule names are shared among blocks.
    pub allocation: AllocationSpec,
}

/// A part of the targets that does not fit a model.
#[derive(Debug)]
pub struct Misfit {
    /// The field that it is asked for by, as a path.
    pub part: String,
    /// What is wrong.
    pub error: EngineError,
}

impl From<Goal> for Targets {
    /// The same of every linear.
    fn from(goal: Goal) -> Self {
        Self {
            goal,
            rules: Vec::new(),
            allocation: AllocationSpec::default(),
        }
    }
}

impl Targets {
    /// Refuses what does not fit a model.
    pub fn check(&self, plan: &ModelPlan) -> Result<()> {
        let misfit = self.misfits(plan).into_iter().next();
        misfit.map_or(Ok(()), |misfit| Err(misfit.error))
    }

    /// Whether calibration windows are read before anything is pruned.
    pub fn needs_calibration(&self) -> bool {
        !self.allocation.kind.needs().is_empty()
    }

    /// Why its parts do not go together, if they do not.
    pub fn contradiction(&self) -> Option<Contradiction> {
        if let Some(Contradiction { part, detail }) = self.allocation.contradiction() {
            let part = if part == "min_sparsity" {
                "allocation/min_sparsity"
            } else {
                "allocation"
            };
            return Some(Contradiction { part, detail });
        }
        let (kind, pattern) = (self.allocation.kind, self.goal.pattern);
        let fixed = pattern
            .implied_sparsity()
            .filter(|_| !self.allocation.is_uniform());
        fixed.map(|_| Contradiction {
            part: "allocation",
            detail: format!(
                "{kind} shares zeros among blocks, and {pattern} gives each the same share"
            ),
        })
    }

    /// What is asked of each linear of a model, block by block; `None` = it is left as it is. `zeros` are those of the
    /// blocks, where they are shared.
    pub(crate) fn goals(
        &self,
        plan: &ModelPlan,
        zeros: Option<&[u64]>,
    ) -> Result<Vec<Vec<Option<Goal>>>> {
        self.check(plan)?;
        let mut rules = self.rule_of_each(plan)?.into_iter();
        let mut goals = Vec::with_capacity(plan.blocks.len());
        for (index, block) in plan.blocks.iter().enumerate() {
            let rules: Vec<_> = rules.by_ref().take(block.linears.len()).collect();
            let linears = block.linears.iter().zip(&rules);
            let is_free = |rule: &Option<usize>| rule.is_none();
            let weights: Vec<u64> = linears
                .map(|(linear, rule)| if is_free(rule) { linear.weights() } else { 0 })
                .collect();
            let shared = zeros.map(|zeros| self.divide(&weights, zeros[index]));
            let mut shared = shared.transpose()?.map(Vec::into_iter);
            let of_linear = |rule| {
                let counted = shared.as_mut().and_then(Iterator::next);
                let goal = self.goal_by(rule)?;
                let zeros = counted.filter(|_| rule.is_none());
                Some(Goal { zeros, ..goal })
            };
            goals.push(rules.into_iter().map(of_linear).collect());
        }
        Ok(goals)
    }

    /// Everything that does not fit a model.
    pub fn misfits(&self, plan: &ModelPlan) -> Vec<Misfit> {
        let rules = match self.rule_of_each(plan) {
            Ok(rules) => rules,
            Err(error) => {
                let part = "rules".to_owned();
                return vec![Misfit { part, error }];
            }
        };
        let mut misfits = Vec::new();
        for (number, rule) in self.rules.iter().enumerate() {
            if !rules.contains(&Some(number)) {
                misfits.push(Misfit {
                    part: format!("rules/{number}/match"),
                    error: EngineError::RuleMismatch {
                        rule: rule.to_string(),
                        reason: self.why_unused(number, plan),
                    },
                });
            }
        }
        for by in [None].into_iter().chain((0..self.rules.len()).map(Some)) {
            let linears = plan.linears().zip(&rules);
            let mut linears = linears.filter(|(_, rule)| **rule == by);
            let Some(goal) = self.goal_by(by) else {
                continue;
            };
            let misfit = linears.find(|(linear, _)| !goal.pattern.fits(linear.d_in));
            misfits.extend(misfit.map(|(linear, _)| Misfit {
                part: by.map_or_else(
                    || "pattern".to_owned(),
                    |rule| format!("rules/{rule}/pattern"),
                ),
                error: pattern_mismatch(goal, linear),
            }));
        }
        // It goes by the rules, whose faults were told.
        misfits.extend(self.unmet_allocation(plan).ok().flatten());
        misfits
    }

    /// The names of the linears that go by each rule.
    pub fn linears_by_rule<'p>(&self, plan: &'p ModelPlan) -> Result<Vec<Vec<&'p str>>> {
        let mut names = vec![Vec::new(); self.rules.len()];
        for (linear, rule) in plan.linears().zip(self.rule_of_each(plan)?) {
            if let Some(rule) = rule {
                names[rule].push(linear.name.as_str());
            }
        }
        Ok(names)
    }

    fn goal_by(&self, rule: Option<usize>) -> Option<Goal> {
        rule.map_or(Some(self.goal), |rule| self.rules[rule].goal())
    }

    /// The rule that each linear goes by, in the order of the plan.
    fn rule_of_each(&self, plan: &ModelPlan) -> Result<Vec<Option<usize>>> {
        let mut compiled = Vec::with_capacity(self.rules.len());
        for rule in &self.rules {
            let expression = rule.compiled();
            compiled.push(expression.map_err(|reason| EngineError::RuleMismatch {
                rule: rule.to_string(),
                reason,
            })?);
        }
        let linears = plan.linears();
        Ok(linears
            .map(|linear| compiled.iter().position(|it| it.is_match(&linear.name)))
            .collect())
    }

    /// Why no linear goes by a rule.
    fn why_unused(&self, number: usize, plan: &ModelPlan) -> String {
        let compiled = self.rules[number].compiled();
        let matches = |linear: &&LinearSpec| {
            let compiled = compiled.as_ref();
            compiled.is_ok_and(|it| it.is_match(&linear.name))
        };
        let Some(linear) = plan.linears().find(matches) else {
            let example = plan.linears().next();
            let example = example.map_or("", |linear| linear.name.as_str());
            return format!("it matches no linear; one of them is {example}");
        };
        let name = &linear.name;
        format!("an earlier rule has every linear that it matches, such as {name}")
    }
}

fn pattern_mismatch(goal: Goal, linear: &LinearSpec) -> EngineError {
    EngineError::PatternMismatch {
        linear: linear.name.clone(),
        d_in: linear.d_in,
        pattern: goal.pattern,
    }
}

#[cfg(test)]
mod tests;
