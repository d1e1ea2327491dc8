//! What is done to a model: its linears are pruned, or parts of it are removed.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::error::Result;
use super::method::{METHODS, MethodId};
use super::model::{BlockPlan, ModelPlan};
use super::pattern::{ComparisonGroup, Goal, Pattern};
use super::prune::Propagation;
use super::recipe::{Contradiction, Recipe};
use super::refine::RefinementId;
use super::structure::{STRUCTURES, StructureId};
use super::targets::{Misfit, Targets};

/// Anything that the word `method` names: a row of [`METHODS`] or of [`STRUCTURES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PruningMethod {
    /// Makes zeros in linears.
    Linears(MethodId),
    /// Removes parts.
    Parts(StructureId),
}

impl PruningMethod {
    /// All of them, those of linears first.
    pub fn all() -> impl Iterator<Item = Self> {
        let methods = METHODS.into_iter().map(Self::Linears);
        methods.chain(STRUCTURES.into_iter().map(Self::Parts))
    }

    /// Their words.
    pub fn names() -> Vec<&'static str> {
        Self::all().map(Self::name).collect()
    }

    /// Its word in requests and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Linears(method) => method.name(),
            Self::Parts(structure) => structure.name(),
        }
    }

    /// What it does, in one sentence.
    pub fn doc(self) -> &'static str {
        match self {
            Self::Linears(method) => method.doc(),
            Self::Parts(structure) => structure.doc(),
        }
    }
}

impl Default for PruningMethod {
    fn default() -> Self {
        Self::Linears(MethodId::default())
    }
}

impl fmt::Display for PruningMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for PruningMethod {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let found = Self::all().find(|method| method.name() == word);
        found.ok_or_else(|| {
            let known = Self::names().join(", ");
            format!("unknown method {word:?}, expected one of {known}")
        })
    }
}

impl Serialize for PruningMethod {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for PruningMethod {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// Everything that is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Pruning {
    /// How weights, or parts, are chosen.
    pub method: PruningMethod,
    /// See [`Recipe::group`].
    pub group: Option<ComparisonGroup>,
    /// See [`Recipe::refine`].
    pub refine: Option<RefinementId>,
    /// See [`Recipe::refit`].
    pub refit: bool,
    /// See [`Recipe::propagation`].
    pub propagation: Propagation,
    /// How much, and of what.
    pub targets: Targets,
}

/// What there is to do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum PruningWork {
    /// The same to each linear, as the targets say.
    Linears(Recipe),
    /// Parts go.
    Parts(StructureId),
}

impl From<PruningMethod> for Pruning {
    /// The method alone, of which nothing is asked.
    fn from(method: PruningMethod) -> Self {
        Self {
            method,
            group: None,
            refine: None,
            refit: false,
            propagation: Propagation::default(),
            targets: Goal::new(Pattern::default(), 0.0).into(),
        }
    }
}

impl Pruning {
    /// What there is to do.
    pub fn work(&self) -> PruningWork {
        match self.method {
            PruningMethod::Linears(method) => PruningWork::Linears(Recipe {
                method,
                group: self.group,
                refine: self.refine,
                refit: self.refit,
                propagation: self.propagation,
            }),
            PruningMethod::Parts(structure) => PruningWork::Parts(structure),
        }
    }

    /// Everything that does not go together.
    pub fn contradictions(&self) -> Vec<Contradiction> {
        let recipe = match self.work() {
            PruningWork::Linears(recipe) => recipe,
            PruningWork::Parts(structure) => return self.of_linears(structure),
        };
        let pattern = self.targets.goal.pattern;
        let all = [
            recipe.contradiction(),
            recipe.contradiction_with(pattern),
            self.targets.contradiction(),
        ];
        all.into_iter().flatten().collect()
    }

    /// What is asked of linears, where whole parts are removed.
    fn of_linears(&self, structure: StructureId) -> Vec<Contradiction> {
        let targets = &self.targets;
        let asked = [
            ("group", self.group.is_some()),
            ("refine", self.refine.is_some()),
            ("refit", self.refit),
            ("propagation", self.propagation != Propagation::default()),
            ("pattern", targets.goal.pattern != Pattern::default()),
            ("rules", !targets.rules.is_empty()),
            ("allocation", !targets.allocation.is_uniform()),
        ];
        let asked = asked.into_iter().filter(|(_, is_asked)| *is_asked);
        asked
            .map(|(part, _)| Contradiction {
                part,
                detail: format!(
                    "{structure} removes whole parts and leaves the others as they are; {part} is for methods that prune linears"
                ),
            })
            .collect()
    }

    /// Everything that does not fit a model.
    pub fn misfits(&self, plan: &ModelPlan) -> Vec<Misfit> {
        match self.method {
            PruningMethod::Linears(_) => self.targets.misfits(plan),
            PruningMethod::Parts(structure) => structure.misfits(plan, self.sparsity()),
        }
    }

    /// Refuses what does not fit a model.
    pub fn check(&self, plan: &ModelPlan) -> Result<()> {
        let misfit = self.misfits(plan).into_iter().next();
        misfit.map_or(Ok(()), |misfit| Err(misfit.error))
    }

    /// The fraction of zeros, or of parts, that is asked for.
    pub fn sparsity(&self) -> f64 {
        self.targets.goal.sparsity
    }

    /// Whether it reads calibration windows.
    pub fn needs_calibration(&self) -> bool {
        match self.work() {
            PruningWork::Linears(recipe) => {
                recipe.needs_calibration() || self.targets.needs_calibration()
            }
            PruningWork::Parts(_) => true,
        }
    }

    /// How often the calibration windows pass the blocks, where any are read.
    pub fn passes(&self) -> u64 {
        match self.work() {
            // Observed, then computed again with the pruned weights; twice where blocks are measured first.
            PruningWork::Linears(_) if self.targets.needs_calibration() => 4,
            PruningWork::Linears(_) => 2,
            PruningWork::Parts(_) => 1,
        }
    }

    /// Activations `[n_tokens, hidden]` of all windows that exist at a time.
    pub fn activations(&self) -> u64 {
        match self.work() {
            PruningWork::Linears(recipe) => recipe.propagation.activations(),
            PruningWork::Parts(_) => 1,
        }
    }

    /// The fewest weights of blocks that are not in the result at all.
    pub fn least_removed(&self, plan: &ModelPlan) -> u64 {
        match self.work() {
            PruningWork::Linears(_) => 0,
            PruningWork::Parts(structure) => {
                structure.least_weights(plan, structure.count(plan, self.sparsity()))
            }
        }
    }

    /// Bytes of the result at most, of a model whose weights take so many.
    pub fn most_bytes(&self, plan: &ModelPlan, size_bytes: u64) -> u64 {
        let shapes = plan.tensors().map(|(name, shape)| {
            let is_absent = plan.head.is_tied && name == plan.head.projection;
            let elements = shape.iter().map(|&width| width as u64).product();
            if is_absent { 0 } else { elements }
        });
        // Rounded down, so that what goes is not taken for more than it is.
        let bytes_of_one = size_bytes / shapes.sum::<u64>().max(1);
        size_bytes.saturating_sub(self.least_removed(plan).saturating_mul(bytes_of_one))
    }

    /// Bytes that are needed for a block, besides its weights and its inputs.
    pub fn working_bytes(&self, block: &BlockPlan) -> u64 {
        match self.work() {
            PruningWork::Linears(recipe) => recipe.working_bytes(block),
            PruningWork::Parts(_) => 0,
        }
    }

    /// Multiplications of a token in a block while it is observed.
    pub fn observing_multiplications(&self, block: &BlockPlan, is_last: bool) -> u64 {
        match self.work() {
            PruningWork::Linears(recipe) => {
                let passes = if is_last { 1 } else { 2 };
                let measuring = if self.targets.needs_calibration() {
                    passes * block.weights_per_token()
                } else {
                    0
                };
                measuring + recipe.observing_multiplications(block, is_last)
            }
            PruningWork::Parts(structure) => structure.observing_multiplications(block),
        }
    }

    /// Multiplications that choose and fit the weights of a block whose statistics are there.
    pub fn multiplications(&self, block: &BlockPlan) -> u64 {
        match self.work() {
            PruningWork::Linears(recipe) => recipe.multiplications(block),
            PruningWork::Parts(_) => 0,
        }
    }
}

impl fmt::Display for PruningWork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Linears(recipe) => recipe.fmt(f),
            Self::Parts(structure) => structure.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_of_a_method_is_of_one_table() {
        let mut names = PruningMethod::names();
        assert_eq!(names.len(), METHODS.len() + STRUCTURES.len());
        for name in &names {
            assert_eq!(name.parse::<PruningMethod>().unwrap().name(), *name);
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), METHODS.len() + STRUCTURES.len());
        let error = "block".parse::<PruningMethod>().unwrap_err();
        assert!(
            error.contains("wanda") && error.contains("blocks"),
            "{error}"
        );
    }

    #[test]
    fn nothing_is_asked_of_linears_where_parts_go() {
        let parts = Pruning::from(PruningMethod::Parts(STRUCTURES[0]));
        assert_eq!(parts.contradictions(), []);
        let asked = Pruning {
            group: Some(ComparisonGroup::Row),
            refine: "swaps".parse().ok(),
            refit: true,
            propagation: Propagation::Paired,
            targets: Targets {
                goal: Goal::new("2:4".parse().unwrap(), 0.5),
                rules: vec!["down=dense".parse().unwrap()],
                allocation: "owl".parse().unwrap(),
            },
            ..parts
        };
        let found: Vec<_> = asked.contradictions().iter().map(|it| it.part).collect();
        let expected = [
            "group",
            "refine",
            "refit",
            "propagation",
            "pattern",
            "rules",
            "allocation",
        ];
        assert_eq!(found, expected);
    }
}
