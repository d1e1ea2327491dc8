//! The Qwen families.

mod qwen2;
mod qwen3;
mod qwen3_moe;

use super::Family;
use super::shared::layer_types;
use crate::error::Result;
use crate::model::config::Config;

pub(super) use qwen2::FAMILY as QWEN2;
pub(super) use qwen3::FAMILY as QWEN3;
pub(super) use qwen3_moe::FAMILY as QWEN3_MOE;

/// Of a configuration without the key.
const SLIDING_WINDOW: usize = 4096;
/// Of a configuration without the key.
const MAX_WINDOW_LAYERS: usize = 28;

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
    let full = config
        .count("max_window_layers")?
        .unwrap_or(MAX_WINDOW_LAYERS);
    layer_types::windows(config, blocks, window, |block| block >= full)
}
