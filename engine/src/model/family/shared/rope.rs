//! Rotary settings of a `config.json`, in each spelling, with the precedence of transformers 5.
//!
//! `rope_scaling` (transformers 4) comes before `rope_parameters` (transformers 5) unless it is empty; `rope_theta` and
//! `partial_rotary_factor` within it come before the ones beside it.

use crate::error::Result;
use crate::model::config::{Config, missing};
use crate::model::family::{invalid, unsupported};
use crate::model::rope::{RopeScaling, RopeSpec};

/// Base of the frequencies where none is given.
const THETA: f64 = 10_000.0;

pub(super) fn read(config: &Config, head_dim: usize, max_seq_len: usize) -> Result<RopeSpec> {
    let settings = match config.object("rope_scaling")? {
        Some(settings) if !settings.is_empty() => settings,
        _ => config.object("rope_parameters")?.unwrap_or_default(),
    };
    if let Some(kind) = settings.nested() {
        return unsupported(format!("rotary settings of their own for {kind:?}"));
    }
    let own_or_beside = |key| match settings.positive(key)? {
        None => config.positive(key),
        own => Ok(own),
    };
    if let Some(factor) = own_or_beside("partial_rotary_factor")?
        && (factor - 1.0).abs() > f64::EPSILON
    {
        return unsupported(format!("partial_rotary_factor {factor}"));
    }
    Ok(RopeSpec {
        theta: own_or_beside("rope_theta")?.unwrap_or(THETA),
        scaling: scaling(config, &settings, max_seq_len)?,
        head_dim,
    })
}

fn scaling(config: &Config, settings: &Config, max_seq_len: usize) -> Result<RopeScaling> {
    let required = |key| settings.positive(key)?.ok_or_else(|| missing(key));
    let rope_type = match settings.text("rope_type")? {
        None => settings.text("type")?,
        newer => newer,
    };
    match rope_type.unwrap_or("default") {
        "default" => Ok(RopeScaling::Default),
        "linear" => Ok(RopeScaling::Linear {
            factor: required("factor")?,
        }),
        "llama3" => {
            const ORIGINAL: &str = "original_max_position_embeddings";
            let original_max_seq_len = match config.size(ORIGINAL)? {
                None => settings.size(ORIGINAL)?,
                beside => beside,
            };
            let (low_freq_factor, high_freq_factor) =
                (required("low_freq_factor")?, required("high_freq_factor")?);
            if low_freq_factor >= high_freq_factor {
                return invalid("low_freq_factor must be less than high_freq_factor".to_owned());
            }
            Ok(RopeScaling::Llama3 {
                factor: required("factor")?,
                low_freq_factor,
                high_freq_factor,
                original_max_seq_len: original_max_seq_len.unwrap_or(max_seq_len),
            })
        }
        other => unsupported(format!("rope_type {other:?}")),
    }
}
