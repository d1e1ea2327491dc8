//! Mixtral: `MixtralForCausalLM` of transformers. As Mistral, with experts in every block; the weights of the experts of a
//! token always sum to 1.

use super::shared::decoder::Dimensions;
use super::shared::experts::{ExpertNames, Experts};
use super::shared::rope::RopeDefaults;
use super::shared::style::{BlockSettings, DecoderStyle, FamilyDefaults, RopeSource};
use super::{Family, unsupported};
use crate::error::Result;
use crate::model::config::Config;
use crate::model::plan::ModelPlan;

pub(super) const FAMILY: Family = Family {
    architecture: "MixtralForCausalLM",
    model_type: "mixtral",
    plan,
};

const NAMES: ExpertNames = ExpertNames {
    part: "block_sparse_moe",
    gate: "w1",
    up: "w3",
    down: "w2",
};

fn plan(config: &Config) -> Result<ModelPlan> {
    let dimensions = Dimensions::read(
        config,
        &FamilyDefaults {
            kv_heads: Some(8),
            max_seq_len: 4096 * 32,
            eps: 1e-5,
            rope: RopeSource::One(RopeDefaults {
                theta: 1e6,
                ..RopeDefaults::default()
            }),
            ..FamilyDefaults::default()
        },
    )?;
    // The class knows one window for all blocks.
    if config.says("layer_types") {
        return unsupported("layer_types of a Mixtral model".to_owned());
    }
    let experts = Experts::read(config, &NAMES, "intermediate_size", 2, true)?;
    experts.check_all(dimensions.blocks)?;
    let settings = BlockSettings {
        window: config.size("sliding_window")?,
        experts: Some(experts),
        ..BlockSettings::default()
    };
    Ok(dimensions.plan(FAMILY.architecture, &DecoderStyle::default(), |_| settings))
}
