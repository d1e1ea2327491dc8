//! Qwen3-MoE: `Qwen3MoeForCausalLM` of transformers. As Qwen3, with experts in some blocks; whether the weights of the
//! experts of a token sum to 1 is said by `norm_topk_prob`. A sliding window is that of every block.

use super::{Family, SLIDING_WINDOW};
use crate::error::Result;
use crate::model::config::Config;
use crate::model::family::shared::decoder::Dimensions;
use crate::model::family::shared::experts::{ExpertNames, Experts};
use crate::model::family::shared::style::{BlockSettings, DecoderStyle, FamilyDefaults, QkNorm};
use crate::model::family::unsupported;
use crate::model::plan::ModelPlan;

pub(in crate::model::family) const FAMILY: Family = Family {
    architecture: "Qwen3MoeForCausalLM",
    model_type: "qwen3_moe",
    plan,
};

const NAMES: ExpertNames = ExpertNames {
    part: "mlp",
    gate: "gate_proj",
    up: "up_proj",
    down: "down_proj",
};

fn plan(config: &Config) -> Result<ModelPlan> {
    let dimensions = Dimensions::read(
        config,
        &FamilyDefaults {
            kv_heads: Some(4),
            max_seq_len: 32_768,
            ..FamilyDefaults::default()
        },
    )?;
    // The class knows one window for all blocks.
    if config.says("layer_types") {
        return unsupported("layer_types of a Qwen3-MoE model".to_owned());
    }
    let renormalises = config.flag("norm_topk_prob")?;
    let experts = Experts::read(config, &NAMES, "moe_intermediate_size", 8, renormalises)?;
    experts.check_all(dimensions.blocks)?;
    let step = config.size("decoder_sparse_step")?.unwrap_or(1);
    let without = config.counts("mlp_only_layers")?.unwrap_or_default();
    let window = window(config)?;
    let attention_bias = config.flag("attention_bias")?;
    let settings = |block: usize| {
        let has_experts = !without.contains(&block) && (block + 1).is_multiple_of(step);
        BlockSettings {
            qkv_bias: attention_bias,
            o_bias: attention_bias,
            window,
            experts: has_experts.then_some(experts),
            ..BlockSettings::default()
        }
    };
    let style = DecoderStyle {
        qk_norm: Some(QkNorm::EachHead),
        ..DecoderStyle::default()
    };
    Ok(dimensions.plan(FAMILY.architecture, &style, settings))
}

/// The sliding window, where it is switched on.
fn window(config: &Config) -> Result<Option<usize>> {
    if !config.flag("use_sliding_window")? {
        return Ok(None);
    }
    if config.names("sliding_window") {
        config.size("sliding_window")
    } else {
        Ok(Some(SLIDING_WINDOW))
    }
}
