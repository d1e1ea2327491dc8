//! Keys of a `config.json` that many families read alike.

use crate::error::Result;
use crate::model::config::{Config, missing};
use crate::model::family::unsupported;
use crate::ops::Activation;

/// Most blocks of a model: a plan names the tensors of each.
const MAX_BLOCKS: usize = 1 << 12;

/// The number of blocks.
pub(in crate::model::family) fn blocks(config: &Config) -> Result<usize> {
    const KEY: &str = "num_hidden_layers";
    config
        .size_up_to(KEY, MAX_BLOCKS)?
        .ok_or_else(|| missing(KEY))
}

/// Settings that every family refuses.
pub(in crate::model::family) fn refuse_other_computations(config: &Config) -> Result<()> {
    if config.says("quantization_config") {
        return unsupported("quantised weights (quantization_config)".to_owned());
    }
    Ok(())
}

/// An activation by its name in transformers.
pub(in crate::model::family) fn activation(
    config: &Config,
    key: &str,
    default: Activation,
) -> Result<Activation> {
    match config.text(key)? {
        None => Ok(default),
        Some("silu" | "swish") => Ok(Activation::Silu),
        Some("gelu" | "gelu_python") => Ok(Activation::Gelu),
        Some("relu") => Ok(Activation::Relu),
        // One formula, written in different ways.
        Some("gelu_pytorch_tanh" | "gelu_new" | "gelu_fast" | "gelu_python_tanh") => {
            Ok(Activation::GeluTanh)
        }
        Some(other) => unsupported(format!("{key} {other:?}")),
    }
}
