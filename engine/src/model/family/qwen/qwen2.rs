//! Qwen2 and Qwen2.5: `Qwen2ForCausalLM` of transformers. Queries, keys and values have biases; some blocks may have a
//! sliding window.

use super::{Family, windows};
use crate::error::Result;
use crate::model::config::Config;
use crate::model::family::shared::decoder::Dimensions;
use crate::model::family::shared::style::{BlockSettings, DecoderStyle, FamilyDefaults};
use crate::model::plan::ModelPlan;

pub(in crate::model::family) const FAMILY: Family = Family {
    architecture: "Qwen2ForCausalLM",
    model_type: "qwen2",
    plan,
};

fn plan(config: &Config) -> Result<ModelPlan> {
    let dimensions = Dimensions::read(
        config,
        &FamilyDefaults {
            kv_heads: Some(32),
            max_seq_len: 32_768,
            ..FamilyDefaults::default()
        },
    )?;
    let windows = windows(config, dimensions.blocks)?;
    let settings = |block: usize| BlockSettings {
        qkv_bias: true,
        window: windows[block],
        ..BlockSettings::default()
    };
    Ok(dimensions.plan(FAMILY.architecture, &DecoderStyle::default(), settings))
}
