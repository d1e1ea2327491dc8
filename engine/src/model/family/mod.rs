//! Model families: one file each, which makes a plan of `config.json` and refuses by name what it cannot run.
//!
//! Running a model wrongly is worse than not running it.

mod gemma;
mod gpt_neox;
mod llama;
mod mistral;
mod mixtral;
mod olmo2;
mod opt;
mod phi3;
mod qwen;
mod shared;

use std::path::Path;

use super::block_keys;
use super::config::{Config, missing};
use super::plan::ModelPlan;
use crate::error::{EngineError, Result};

/// A kind of model, by the names that its `config.json` gives.
#[derive(Debug)]
struct Family {
    /// First of `architectures`.
    architecture: &'static str,
    /// Value of `model_type`.
    model_type: &'static str,
    plan: fn(&Config) -> Result<ModelPlan>,
}

/// Families that can be run.
const FAMILIES: [&Family; 12] = [
    &llama::FAMILY,
    &mistral::FAMILY,
    &mixtral::FAMILY,
    &qwen::QWEN2,
    &qwen::QWEN3,
    &qwen::QWEN3_MOE,
    &phi3::FAMILY,
    &olmo2::FAMILY,
    &gemma::GEMMA2,
    &gemma::GEMMA3,
    &gpt_neox::FAMILY,
    &opt::FAMILY,
];

/// Architectures that can be run, as `config.json` names them.
pub const ARCHITECTURES: [&str; FAMILIES.len()] = {
    let mut names = [""; FAMILIES.len()];
    let mut at = 0;
    while at < names.len() {
        names[at] = FAMILIES[at].architecture;
        at += 1;
    }
    names
};

/// What lies beside weights that are not the whole model: transformers loads it on top of them.
const ADAPTER: &str = "adapter_config.json";

/// Reads `config.json` in `dir`.
pub(super) fn read(dir: &Path) -> Result<ModelPlan> {
    let config = Config::read(dir)?;
    let adapter = dir.join(ADAPTER);
    if adapter
        .try_exists()
        .map_err(EngineError::io("look for", &adapter))?
    {
        return unsupported(format!(
            "an adapter beside the model ({ADAPTER}): merge it into the weights, or take the file away"
        ));
    }
    plan(&config)
}

/// Parses the content of a `config.json`.
pub(super) fn parse(json: &[u8]) -> Result<ModelPlan> {
    plan(&Config::parse(json)?)
}

/// The family is found first: another one lacks some keys, which would be a misleading complaint.
fn plan(config: &Config) -> Result<ModelPlan> {
    let model_type = config
        .text("model_type")?
        .ok_or_else(|| missing("model_type"))?;
    let architectures = config.texts("architectures")?.unwrap_or_default();
    let architecture = architectures.first();
    let family = FAMILIES.iter().find(|family| {
        family.model_type == model_type
            && architecture.is_none_or(|name| *name == family.architecture)
    });
    match family {
        Some(family) => {
            let plan = (family.plan)(config)?;
            Ok(ModelPlan {
                fixed_blocks: why_fixed(family, config, &plan),
                ..plan
            })
        }
        None => Err(EngineError::UnsupportedArchitecture(format!(
            "{} (model_type {model_type}); supported: {}",
            architecture.unwrap_or(&"none named"),
            ARCHITECTURES.join(", ")
        ))),
    }
}

/// Why no block can be left out, if none can: what follows from a block's number alone would be another block's then.
///
/// The first one is left out on trial.
fn why_fixed(family: &Family, config: &Config, whole: &ModelPlan) -> Option<String> {
    let kept: Vec<_> = (1..whole.blocks.len()).collect();
    if kept.is_empty() {
        return Some("there is but one block".to_owned());
    }
    let changed = match block_keys::without(config.entries(), &kept, whole.blocks.len()) {
        Ok(changed) => changed,
        Err(reason) => return Some(reason),
    };
    let rest = (family.plan)(&config.with(&changed));
    let is_rest = rest.is_ok_and(|rest| rest.is_rest_of(whole, &kept));
    (!is_rest).then(|| {
        let name = family.architecture;
        format!("{name} sets blocks apart by their numbers, and config.json has no layer_types that lists them")
    })
}

/// A setting that would change the computation and is not implemented.
fn unsupported<T>(what: String) -> Result<T> {
    Err(EngineError::UnsupportedArchitecture(what))
}

/// A setting that makes no sense.
fn invalid<T>(reason: String) -> Result<T> {
    Err(EngineError::InvalidConfig(reason))
}

/// A configuration of each family.
#[cfg(test)]
pub(crate) fn examples() -> Vec<serde_json::Value> {
    FAMILIES.iter().copied().map(tests::of_family).collect()
}

#[cfg(test)]
mod tests;
