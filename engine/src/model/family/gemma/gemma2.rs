//! Gemma-2: `Gemma2ForCausalLM` of transformers. Soft caps bound the scores of the attention and the logits; every second
//! block has a sliding window.

use super::{Family, cap, defaults, style, windows};
use crate::error::Result;
use crate::model::config::Config;
use crate::model::family::shared::decoder::Dimensions;
use crate::model::family::shared::style::{BlockSettings, DecoderStyle, FamilyDefaults};
use crate::model::plan::ModelPlan;

pub(in crate::model::family) const FAMILY: Family = Family {
    architecture: "Gemma2ForCausalLM",
    model_type: "gemma2",
    plan,
};

fn plan(config: &Config) -> Result<ModelPlan> {
    let dimensions = Dimensions::read(
        config,
        &FamilyDefaults {
            max_seq_len: 8192,
            ..defaults()
        },
    )?;
    let windows = windows(config, dimensions.blocks, 2)?;
    let bias = config.flag("attention_bias")?;
    let settings = |block: usize| BlockSettings {
        qkv_bias: bias,
        o_bias: bias,
        window: windows[block],
        ..BlockSettings::default()
    };
    let style = DecoderStyle {
        attention_soft_cap: cap(config, "attn_logit_softcapping", Some(50.0))?,
        logit_soft_cap: cap(config, "final_logit_softcapping", Some(30.0))?,
        ..style(config)?
    };
    Ok(dimensions.plan(FAMILY.architecture, &style, settings))
}
