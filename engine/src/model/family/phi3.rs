//! Phi-3, Phi-3.5 and Phi-4-mini: `Phi3ForCausalLM` of transformers. Queries, keys and values are one matrix, gate and up
//! another; a part of each head may be turned.

use super::Family;
use super::shared::decoder::Dimensions;
use super::shared::rope::RopeDefaults;
use super::shared::style::{BlockSettings, DecoderStyle, FamilyDefaults, RopeSource};
use crate::error::Result;
use crate::model::config::Config;
use crate::model::plan::ModelPlan;

pub(super) const FAMILY: Family = Family {
    architecture: "Phi3ForCausalLM",
    model_type: "phi3",
    plan,
};

/// The class knows no other rotary settings; older names mean the last one.
const ROPE_KINDS: [(&str, &str); 4] = [
    ("default", "default"),
    ("longrope", "longrope"),
    ("su", "longrope"),
    ("yarn", "longrope"),
];

fn plan(config: &Config) -> Result<ModelPlan> {
    let dimensions = Dimensions::read(
        config,
        &FamilyDefaults {
            max_seq_len: 4096,
            eps: 1e-5,
            rope: RopeSource::One(RopeDefaults {
                partial: Some(("partial_rotary_factor", 1.0)),
                original_max_seq_len: Some(4096),
                kinds: Some(&ROPE_KINDS),
                ..RopeDefaults::default()
            }),
            ..FamilyDefaults::default()
        },
    )?;
    let settings = BlockSettings {
        window: config.size("sliding_window")?,
        ..BlockSettings::default()
    };
    let style = DecoderStyle {
        is_fused: true,
        ..DecoderStyle::default()
    };
    Ok(dimensions.plan(FAMILY.architecture, &style, |_| settings))
}
