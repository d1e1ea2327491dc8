//! LLaMA 1 to 3.x and what was trained in its shape: `LlamaForCausalLM` of transformers.
//!
//! The class has no sliding window, so a key of that name means nothing here.

use super::Family;
use super::shared::decoder::Dimensions;
use super::shared::style::{BlockSettings, DecoderStyle, FamilyDefaults};
use crate::error::Result;
use crate::model::config::Config;
use crate::model::plan::ModelPlan;

pub(super) const FAMILY: Family = Family {
    architecture: "LlamaForCausalLM",
    model_type: "llama",
    plan,
};

fn plan(config: &Config) -> Result<ModelPlan> {
    let dimensions = Dimensions::read(config, &FamilyDefaults::default())?;
    let attention_bias = config.flag("attention_bias")?;
    let settings = BlockSettings {
        qkv_bias: attention_bias,
        o_bias: attention_bias,
        mlp_bias: config.flag("mlp_bias")?,
        ..BlockSettings::default()
    };
    Ok(dimensions.plan(FAMILY.architecture, &DecoderStyle::default(), |_| settings))
}
