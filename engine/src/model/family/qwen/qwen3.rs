//! Qwen3: `Qwen3ForCausalLM` of transformers. Queries and keys are normed head by head before they are turned; some
//! blocks may have a sliding window.

use super::{Family, windows};
use crate::error::Result;
use crate::model::config::Config;
use crate::model::family::shared::decoder::Dimensions;
use crate::model::family::shared::style::{BlockSettings, DecoderStyle, FamilyDefaults, QkNorm};
use crate::model::plan::ModelPlan;

pub(in crate::model::family) const FAMILY: Family = Family {
    architecture: "Qwen3ForCausalLM",
    model_type: "qwen3",
    plan,
};

fn plan(config: &Config) -> Result<ModelPlan> {
    let dimensions = Dimensions::read(
        config,
        &FamilyDefaults {
            kv_heads: Some(32),
            head_dim: Some(128),
            max_seq_len: 32_768,
            ..FamilyDefaults::default()
        },
    )?;
    let windows = windows(config, dimensions.blocks)?;
    let attention_bias = config.flag("attention_bias")?;
    let settings = |block: usize| BlockSettings {
        qkv_bias: attention_bias,
        o_bias: attention_bias,
        window: windows[block],
        ..BlockSettings::default()
    };
    let style = DecoderStyle {
        qk_norm: Some(QkNorm::EachHead),
        ..DecoderStyle::default()
    };
    Ok(dimensions.plan(FAMILY.architecture, &style, settings))
}
