//! Gemma-3 for text: `Gemma3ForCausalLM` of transformers. Queries and keys are normed head by head; most blocks have a
//! sliding window and turn by a base of their own.
//!
//! The class does not look at `attn_logit_softcapping`.

use super::{Family, cap, defaults, style, windows};
use crate::error::Result;
use crate::model::config::Config;
use crate::model::family::shared::decoder::Dimensions;
use crate::model::family::shared::style::{
    BlockSettings, DecoderStyle, FamilyDefaults, QkNorm, RopeSource,
};
use crate::model::plan::ModelPlan;

pub(in crate::model::family) const FAMILY: Family = Family {
    architecture: "Gemma3ForCausalLM",
    model_type: "gemma3_text",
    plan,
};

/// Rotary bases of blocks that see all tokens, and of those with a sliding window.
const THETAS: [f64; 2] = [1e6, 1e4];

fn plan(config: &Config) -> Result<ModelPlan> {
    let dimensions = Dimensions::read(
        config,
        &FamilyDefaults {
            max_seq_len: 131_072,
            rope: RopeSource::ByLayerType(THETAS),
            ..defaults()
        },
    )?;
    let pattern = config.size("sliding_window_pattern")?.unwrap_or(6);
    let windows = windows(config, dimensions.blocks, pattern)?;
    let bias = config.flag("attention_bias")?;
    let settings = |block: usize| BlockSettings {
        qkv_bias: bias,
        o_bias: bias,
        window: windows[block],
        rope: usize::from(windows[block].is_some()),
        ..BlockSettings::default()
    };
    let style = DecoderStyle {
        qk_norm: Some(QkNorm::EachHead),
        logit_soft_cap: cap(config, "final_logit_softcapping", None)?,
        ..style(config)?
    };
    Ok(dimensions.plan(FAMILY.architecture, &style, settings))
}
