//! The Gemma families.
//!
//! Norms multiply by 1 + weight and stand before and after each part; embeddings are multiplied by the root of the hidden
//! size; some blocks have a sliding window.

mod gemma2;
mod gemma3;

use super::shared::layer_types;
use super::shared::style::{DecoderStyle, FamilyDefaults, NormPlaces};
use super::{Family, invalid, unsupported};
use crate::error::Result;
use crate::model::config::Config;
use crate::model::plan::NormKind;
use crate::ops::Activation;

pub(super) use gemma2::FAMILY as GEMMA2;
pub(super) use gemma3::FAMILY as GEMMA3;

/// Of a configuration without the key.
const SLIDING_WINDOW: usize = 4096;

/// What stands for keys that are absent.
fn defaults() -> FamilyDefaults {
    FamilyDefaults {
        kv_heads: Some(4),
        head_dim: Some(256),
        is_tied: true,
        activation: ("hidden_activation", Activation::GeluTanh),
        ..FamilyDefaults::default()
    }
}

fn style(config: &Config) -> Result<DecoderStyle> {
    if config.flag("use_bidirectional_attention")? {
        return unsupported("use_bidirectional_attention".to_owned());
    }
    Ok(DecoderStyle {
        norms: NormPlaces::Around,
        norm_kind: NormKind::RmsFromOne,
        attention_scalar: Some(number(config, "query_pre_attn_scalar")?.unwrap_or(256.0)),
        scales_embedding: true,
        ..DecoderStyle::default()
    })
}

/// The sliding window of each block.
///
/// Without `layer_types`, every block has one but the last of each `pattern`.
fn windows(config: &Config, blocks: usize, pattern: usize) -> Result<Vec<Option<usize>>> {
    let window = if config.names("sliding_window") {
        config.size("sliding_window")?
    } else {
        Some(SLIDING_WINDOW)
    };
    if window.is_none() {
        return invalid("sliding_window is null".to_owned());
    }
    layer_types::windows(config, blocks, window, |block| {
        !(block + 1).is_multiple_of(pattern)
    })
}

#[expect(clippy::cast_possible_truncation, reason = "the computation is in f32")]
fn number(config: &Config, key: &str) -> Result<Option<f32>> {
    Ok(config.positive(key)?.map(|number| number as f32))
}

/// The bound of a soft cap: an explicit null switches it off.
fn cap(config: &Config, key: &str, default: Option<f32>) -> Result<Option<f32>> {
    if config.names(key) {
        number(config, key)
    } else {
        Ok(default)
    }
}
