//! OLMo-2: `Olmo2ForCausalLM` of transformers. Norms stand after attention and feed-forward part, and on all queries and
//! all keys of a token at once.

use super::Family;
use super::shared::decoder::Dimensions;
use super::shared::style::{BlockSettings, DecoderStyle, FamilyDefaults, NormPlaces, QkNorm};
use crate::error::Result;
use crate::model::config::Config;
use crate::model::plan::ModelPlan;

pub(super) const FAMILY: Family = Family {
    architecture: "Olmo2ForCausalLM",
    model_type: "olmo2",
    plan,
};

fn plan(config: &Config) -> Result<ModelPlan> {
    let dimensions = Dimensions::read(
        config,
        &FamilyDefaults {
            eps: 1e-5,
            ..FamilyDefaults::default()
        },
    )?;
    let attention_bias = config.flag("attention_bias")?;
    let settings = BlockSettings {
        qkv_bias: attention_bias,
        o_bias: attention_bias,
        ..BlockSettings::default()
    };
    let style = DecoderStyle {
        norms: NormPlaces::After,
        qk_norm: Some(QkNorm::AllHeads),
        ..DecoderStyle::default()
    };
    Ok(dimensions.plan(FAMILY.architecture, &style, |_| settings))
}
