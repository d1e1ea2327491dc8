//! Experts in place of the MLP of a block.

use super::linears::Linears;
use crate::error::Result;
use crate::model::config::{Config, MAX_DIMENSION, missing};
use crate::model::family::invalid;
use crate::model::plan::{Mlp, Mlps, RouterSpec, UpSpec};
use crate::ops::Activation;

/// Most experts of a block.
const MAX_EXPERTS: usize = 1 << 10;
/// Most experts of a model: a plan names the tensors of each.
const MAX_EXPERTS_OF_ALL_BLOCKS: usize = 1 << 16;
/// The key of the number of experts, as transformers 5 writes it and as others do.
const COUNT_KEYS: [&str; 2] = ["num_local_experts", "num_experts"];

/// Names of modules in a block.
#[derive(Debug)]
pub(in crate::model::family) struct ExpertNames {
    /// The part that holds the router, `gate`, and the list `experts`.
    pub(in crate::model::family) part: &'static str,
    pub(in crate::model::family) gate: &'static str,
    pub(in crate::model::family) up: &'static str,
    pub(in crate::model::family) down: &'static str,
}

/// The experts of a block.
#[derive(Debug, Clone, Copy)]
pub(in crate::model::family) struct Experts {
    names: &'static ExpertNames,
    count: usize,
    /// Experts that read a token.
    top_k: usize,
    /// Width within an expert.
    inner: usize,
    renormalises: bool,
}

impl Experts {
    /// `inner_key`: of the width within an expert; `top_k`: of a configuration without the key.
    pub(in crate::model::family) fn read(
        config: &Config,
        names: &'static ExpertNames,
        inner_key: &str,
        top_k: usize,
        renormalises: bool,
    ) -> Result<Self> {
        let count = count(config)?;
        let inner = config.required_size(inner_key)?;
        let top_k = config.size("num_experts_per_tok")?.unwrap_or(top_k);
        if top_k > count {
            return invalid(format!("{top_k} experts of a token, of {count} in all"));
        }
        if count * inner > MAX_DIMENSION {
            return invalid(format!(
                "{count} experts of {inner} are wider than {MAX_DIMENSION}"
            ));
        }
        Ok(Self {
            names,
            count,
            top_k,
            inner,
            renormalises,
        })
    }

    /// Refuses more experts in `blocks` blocks than a plan has room for.
    pub(in crate::model::family) fn check_all(self, blocks: usize) -> Result<()> {
        let all = self.count * blocks;
        if all > MAX_EXPERTS_OF_ALL_BLOCKS {
            return invalid(format!(
                "{all} experts in {blocks} blocks are more than {MAX_EXPERTS_OF_ALL_BLOCKS}"
            ));
        }
        Ok(())
    }

    /// The plan of them.
    pub(super) fn mlps(
        self,
        linears: &mut Linears<'_>,
        hidden: usize,
        activation: Activation,
    ) -> Mlps {
        let ExpertNames {
            part,
            gate,
            up,
            down,
        } = self.names;
        let mut expert = |index: usize| {
            let name = |linear: &str| format!("{part}.experts.{index}.{linear}");
            Mlp {
                up: UpSpec::Gated {
                    gate: linears.of_next_input(hidden, &name(gate), self.inner, false),
                    up: linears.of_same_input(&name(up), self.inner, false),
                },
                activation,
                down: linears.of_next_input(self.inner, &name(down), hidden, false),
            }
        };
        Mlps::Routed {
            experts: (0..self.count).map(&mut expert).collect(),
            router: RouterSpec {
                name: format!("{}.{part}.gate", linears.prefix),
                top_k: self.top_k,
                renormalises: self.renormalises,
            },
        }
    }
}

fn count(config: &Config) -> Result<usize> {
    let [written, older] = COUNT_KEYS;
    let counts = [
        config.size_up_to(written, MAX_EXPERTS)?,
        config.size_up_to(older, MAX_EXPERTS)?,
    ];
    match counts {
        [Some(a), Some(b)] if a != b => invalid(format!("{written} is {a} and {older} is {b}")),
        [Some(count), _] | [None, Some(count)] => Ok(count),
        [None, None] => Err(missing(written)),
    }
}
