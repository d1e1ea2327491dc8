//! The key `layer_types`: which blocks look through a sliding window.

use crate::error::Result;
use crate::model::config::Config;
use crate::model::family::{invalid, unsupported};

/// The sliding window of each block.
///
/// Where `layer_types` says nothing, `is_sliding` tells by the block's number.
pub(in crate::model::family) fn windows(
    config: &Config,
    blocks: usize,
    window: Option<usize>,
    is_sliding: impl Fn(usize) -> bool,
) -> Result<Vec<Option<usize>>> {
    let Some(types) = config.texts("layer_types")? else {
        let window_of = |block| window.filter(|_| is_sliding(block));
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
