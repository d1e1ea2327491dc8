//! `config.json` of a Hugging Face model → what the decoder needs to know.
//!
//! Both spellings are read: `rope_theta` + `rope_scaling` (transformers 4) and `rope_parameters` (transformers 5).
//! A setting that would change the computation and is not implemented is refused by name: running a model wrongly
//! is worse than not running it.

use std::path::Path;

use serde::Deserialize;

use super::block::LinearKind;
use super::rope::RopeScaling;
use crate::checkpoint::read_small_file;
use crate::error::{EngineError, Result};
use crate::mask::Sparsity;

/// Architectures that the decoder can run.
pub const SUPPORTED_ARCHITECTURES: [&str; 1] = ["LlamaForCausalLM"];

/// Longest `config.json` that is read.
const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// Most of each dimension: keeps products of them far from overflow.
const MAX_DIMENSION: usize = 1 << 24;

/// A decoder of the LLaMA family, by its numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// The class named in `architectures`.
    pub architecture: String,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of the feed-forward part.
    pub intermediate: usize,
    /// Number of decoder blocks.
    pub blocks: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; each serves `heads / kv_heads` query heads.
    pub kv_heads: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// Rows of the embedding.
    pub vocab: usize,
    /// Longest context.
    pub max_seq_len: usize,
    /// ε of the RMS norms.
    pub rms_norm_eps: f32,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Change of the rotary frequencies for longer contexts.
    pub rope_scaling: RopeScaling,
    /// Whether q, k, v, o have biases.
    pub attention_bias: bool,
    /// Whether gate, up, down have biases.
    pub mlp_bias: bool,
    /// Whether the output projection is the embedding.
    pub tied_embeddings: bool,
    /// A query sees this many tokens, itself included; `None` = all before it. Taken from the key of this name, which
    /// Mistral-like models saved under the LLaMA class have.
    pub sliding_window: Option<usize>,
}

#[derive(Deserialize)]
struct RawConfig {
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    vocab_size: usize,
    max_position_embeddings: Option<usize>,
    rms_norm_eps: Option<f64>,
    hidden_act: Option<String>,
    rope_theta: Option<f64>,
    rope_scaling: Option<serde_json::Value>,
    rope_parameters: Option<serde_json::Value>,
    partial_rotary_factor: Option<f64>,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    #[serde(default)]
    tie_word_embeddings: bool,
    sliding_window: Option<usize>,
    use_sliding_window: Option<bool>,
    quantization_config: Option<serde_json::Value>,
}

impl ModelConfig {
    /// Reads `config.json` in `dir`.
    pub fn read(dir: &Path) -> Result<Self> {
        let path = dir.join("config.json");
        let bytes = read_small_file(&path, MAX_CONFIG_BYTES).map_err(|error| match error {
            EngineError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                EngineError::InvalidConfig(format!("there is none in {}", dir.display()))
            }
            other => other,
        })?;
        Self::parse(&bytes)
    }

    /// Parses the content of a `config.json`.
    pub fn parse(json: &[u8]) -> Result<Self> {
        let invalid = |e: serde_json::Error| EngineError::InvalidConfig(e.to_string());
        // The family first: another one lacks the fields below, which would be a misleading complaint.
        let value: serde_json::Value = serde_json::from_slice(json).map_err(invalid)?;
        let architecture = check_family(&value)?;
        let raw: RawConfig = serde_json::from_value(value).map_err(invalid)?;
        raw.check_settings()?;
        let rope = raw.rope()?;
        let config = Self {
            architecture,
            hidden: raw.hidden_size,
            intermediate: raw.intermediate_size,
            blocks: raw.num_hidden_layers,
            heads: raw.num_attention_heads,
            kv_heads: raw.num_key_value_heads.unwrap_or(raw.num_attention_heads),
            head_dim: raw
                .head_dim
                .unwrap_or(raw.hidden_size / raw.num_attention_heads.max(1)),
            vocab: raw.vocab_size,
            max_seq_len: raw.max_position_embeddings.unwrap_or(2048),
            #[expect(clippy::cast_possible_truncation, reason = "the computation is in f32")]
            rms_norm_eps: raw.rms_norm_eps.unwrap_or(1e-6) as f32,
            rope_theta: rope.theta,
            rope_scaling: rope.scaling,
            attention_bias: raw.attention_bias,
            mlp_bias: raw.mlp_bias,
            tied_embeddings: raw.tie_word_embeddings,
            sliding_window: raw
                .sliding_window
                .filter(|_| raw.use_sliding_window != Some(false)),
        };
        config.check_dimensions()?;
        Ok(config)
    }

    /// Windows are this long unless asked otherwise: the paper's 2048 tokens, or the model's context if that is less.
    pub fn default_seq_len(&self) -> usize {
        self.max_seq_len.min(2048)
    }

    /// Refuses N:M whose M does not divide the input features of every linear.
    pub fn check_pattern(&self, sparsity: Sparsity) -> Result<()> {
        let Sparsity::KeptOfGroup { group, .. } = sparsity else {
            return Ok(());
        };
        for kind in LinearKind::ALL {
            let (_, d_in) = kind.shape(self);
            if !d_in.is_multiple_of(group) {
                return Err(EngineError::PatternMismatch {
                    linear: kind.name(0),
                    d_in,
                    group,
                });
            }
        }
        Ok(())
    }

    fn check_dimensions(&self) -> Result<()> {
        let invalid = |reason: String| Err(EngineError::InvalidConfig(reason));
        for (name, value) in [
            ("hidden_size", self.hidden),
            ("intermediate_size", self.intermediate),
            ("num_hidden_layers", self.blocks),
            ("num_attention_heads", self.heads),
            ("num_key_value_heads", self.kv_heads),
            ("head_dim", self.head_dim),
            ("vocab_size", self.vocab),
            ("max_position_embeddings", self.max_seq_len),
            ("sliding_window", self.sliding_window.unwrap_or(1)),
        ] {
            if value == 0 || value > MAX_DIMENSION {
                return invalid(format!("{name} is {value}, expected 1 to {MAX_DIMENSION}"));
            }
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            return invalid(format!(
                "{} query heads cannot share {} key-value heads",
                self.heads, self.kv_heads
            ));
        }
        if !self.head_dim.is_multiple_of(2) {
            return invalid(format!(
                "head_dim is {}, rotary embedding needs an even one",
                self.head_dim
            ));
        }
        Ok(())
    }
}

/// The class named in `architectures`, if it can be run.
fn check_family(config: &serde_json::Value) -> Result<String> {
    let Some(model_type) = config["model_type"].as_str() else {
        return Err(EngineError::InvalidConfig(
            "it does not name a model_type".to_owned(),
        ));
    };
    let named = config["architectures"][0].as_str();
    let architecture = named.or((model_type == "llama").then_some("LlamaForCausalLM"));
    match architecture
        .filter(|name| SUPPORTED_ARCHITECTURES.contains(name) && model_type == "llama")
    {
        Some(name) => Ok(name.to_owned()),
        None => Err(EngineError::UnsupportedArchitecture(format!(
            "{} (model_type {model_type}); supported: {}",
            architecture.unwrap_or("none named"),
            SUPPORTED_ARCHITECTURES.join(", ")
        ))),
    }
}

struct Rope {
    theta: f64,
    scaling: RopeScaling,
}

impl RawConfig {
    fn check_settings(&self) -> Result<()> {
        let unsupported = |what: String| Err(EngineError::UnsupportedArchitecture(what));
        if let Some(activation) = self
            .hidden_act
            .as_deref()
            .filter(|&act| act != "silu" && act != "swish")
        {
            return unsupported(format!("hidden_act {activation:?}, expected \"silu\""));
        }
        if self.quantization_config.is_some() {
            return unsupported("quantised weights (quantization_config)".to_owned());
        }
        if let Some(factor) = self
            .partial_rotary_factor
            .filter(|factor| (factor - 1.0).abs() > f64::EPSILON)
        {
            return unsupported(format!("partial_rotary_factor {factor}"));
        }
        Ok(())
    }

    fn rope(&self) -> Result<Rope> {
        let parameters = self.rope_parameters.as_ref().filter(|v| !v.is_null());
        let scaling = parameters
            .or(self.rope_scaling.as_ref())
            .filter(|v| !v.is_null());
        let theta = parameters
            .and_then(|p| p["rope_theta"].as_f64())
            .or(self.rope_theta)
            .unwrap_or(10_000.0);
        if !(theta.is_finite() && theta > 0.0) {
            return Err(EngineError::InvalidConfig(format!("rope_theta is {theta}")));
        }
        let scaling = scaling.map_or(Ok(RopeScaling::Default), RopeScaling::parse)?;
        Ok(Rope { theta, scaling })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn llama() -> serde_json::Value {
        json!({
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "intermediate_size": 176,
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 256,
            "max_position_embeddings": 128, "rms_norm_eps": 1e-5, "hidden_act": "silu", "tie_word_embeddings": true
        })
    }

    fn parse_with(key: &str, value: serde_json::Value) -> Result<ModelConfig> {
        let mut config = llama();
        config[key] = value;
        ModelConfig::parse(config.to_string().as_bytes())
    }

    #[test]
    fn what_is_not_said_has_the_family_s_defaults() {
        let config = ModelConfig::parse(llama().to_string().as_bytes()).unwrap();
        assert_eq!(
            (config.head_dim, config.kv_heads, config.rope_theta),
            (16, 2, 10_000.0)
        );
        assert_eq!(
            (config.rope_scaling, config.sliding_window),
            (RopeScaling::Default, None)
        );
        assert!(!config.attention_bias && !config.mlp_bias && config.tied_embeddings);
    }

    #[test]
    fn both_spellings_of_rotary_settings_are_read() {
        let old = parse_with("rope_theta", json!(5e5)).unwrap();
        let new = parse_with(
            "rope_parameters",
            json!({"rope_type": "default", "rope_theta": 5e5}),
        )
        .unwrap();
        assert_eq!(old, new);
        let scaling = json!({"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32, "rope_type": "llama3"});
        let both = json!({"type": "linear", "rope_type": "linear", "factor": 2.0});
        assert_eq!(
            parse_with("rope_scaling", both).unwrap().rope_scaling,
            RopeScaling::Linear { factor: 2.0 }
        );
        let llama3 = parse_with("rope_scaling", scaling).unwrap();
        assert!(matches!(
            llama3.rope_scaling,
            RopeScaling::Llama3 {
                original_max_seq_len: 32,
                ..
            }
        ));
    }

    #[test]
    fn what_would_be_run_wrongly_is_refused_by_name() {
        for (key, value, name) in [
            ("model_type", json!("mistral"), "mistral"),
            (
                "architectures",
                json!(["LlamaForSequenceClassification"]),
                "LlamaForSequenceClassification",
            ),
            ("hidden_act", json!("gelu"), "gelu"),
            (
                "rope_scaling",
                json!({"type": "yarn", "factor": 4.0}),
                "yarn",
            ),
            (
                "quantization_config",
                json!({"bits": 4}),
                "quantization_config",
            ),
            ("partial_rotary_factor", json!(0.5), "partial_rotary_factor"),
            (
                "rope_parameters",
                json!({"partial_rotary_factor": 0.5}),
                "partial_rotary_factor",
            ),
        ] {
            let error = parse_with(key, value).unwrap_err();
            assert!(
                matches!(error, EngineError::UnsupportedArchitecture(_)),
                "{error}"
            );
            assert!(error.to_string().contains(name), "{error}");
        }
    }

    #[test]
    fn impossible_numbers_are_refused() {
        for (key, value) in [
            ("hidden_size", json!(0)),
            ("hidden_size", json!(-1)),
            ("vocab_size", json!(1u64 << 40)),
            ("num_key_value_heads", json!(3)),
            ("head_dim", json!(15)),
            ("rope_theta", json!(-1.0)),
        ] {
            assert!(
                matches!(parse_with(key, value), Err(EngineError::InvalidConfig(_))),
                "{key}"
            );
        }
    }
}
