//! Qwen2 and Qwen2.5: `Qwen2ForCausalLM` of transformers. Queries, keys and values have biases; some blocks may have a
//! sliding window.

use super::decoder::{BlockSettings, Dimensions, FamilyDefaults};
use super::{Family, invalid, unsupported};
use crate::error::Result;
use crate::model::config::Config;
use crate::model::plan::ModelPlan;

pub(super) const FAMILY: Family = Family {
    architecture: "Qwen2ForCausalLM",
    model_type: "qwen2",
    plan,
};

/// Of a configuration without the key.
const SLIDING_WINDOW: usize = 4096;
/// Of a configuration without the key.
const MAX_WINDOW_LAYERS: usize = 28;

fn plan(config: &Config) -> Result<ModelPlan> {
    let dimensions = Dimensions::read(
        config,
        &FamilyDefaults {
            kv_heads: Some(32),
            max_seq_len: 32_768,
        },
    )?;
    let windows = windows(config, dimensions.blocks)?;
    Ok(dimensions.plan(FAMILY.architecture, |block| BlockSettings {
        qkv_bias: true,
        window: windows[block],
        ..BlockSettings::default()
    }))
}

/// The sliding window of each block.
fn windows(config: &Config, blocks: usize) -> Result<Vec<Option<usize>>> {
    let window = match (
        config.flag("use_sliding_window")?,
        config.names("sliding_window"),
    ) {
        (false, _) => None,
        (true, false) => Some(SLIDING_WINDOW),
        (true, true) => config.size("sliding_window")?,
    };
    let Some(types) = config.texts("layer_types")? else {
        let full = config
            .count("max_window_layers")?
            .unwrap_or(MAX_WINDOW_LAYERS);
        let window_of = |block| window.filter(|_| block >= full);
        return Ok((0..blocks).map(window_of).collect());
    };
    if types.len() != blocks {
        return invalid(format!(
            "layer_types has {} entries for {blocks} blocks",
            types.len()
        ));
    }
    let window_of = |kind| match kind {
        "full_attention" => Ok(None),
        "sliding_attention" if window.is_some() => Ok(window),
        "sliding_attention" => invalid(format!("layer_types has {kind:?} without a window")),
        other => unsupported(format!("layer_types {other:?}")),
    };
    types.into_iter().map(window_of).collect()
}
