//! Mistral: `MistralForCausalLM` of transformers. Every block looks through the same sliding window, and nothing has a bias.

use super::shared::decoder::Dimensions;
use super::shared::style::{BlockSettings, DecoderStyle, FamilyDefaults};
use super::{Family, unsupported};
use crate::error::Result;
use crate::model::config::Config;
use crate::model::plan::ModelPlan;

pub(super) const FAMILY: Family = Family {
    architecture: "MistralForCausalLM",
    model_type: "mistral",
    plan,
};

/// Of a configuration without the key.
const SLIDING_WINDOW: usize = 4096;

fn plan(config: &Config) -> Result<ModelPlan> {
    let dimensions = Dimensions::read(
        config,
        &FamilyDefaults {
            kv_heads: Some(8),
            max_seq_len: 4096 * 32,
            ..FamilyDefaults::default()
        },
    )?;
    // transformers takes these for another class, with windows in some blocks.
    if config.says("layer_types") {
        return unsupported("layer_types of a Mistral model".to_owned());
    }
    let window = if config.names("sliding_window") {
        config.size("sliding_window")?
    } else {
        Some(SLIDING_WINDOW)
    };
    let settings = BlockSettings {
        window,
        ..BlockSettings::default()
    };
    Ok(dimensions.plan(FAMILY.architecture, &DecoderStyle::default(), |_| settings))
}
