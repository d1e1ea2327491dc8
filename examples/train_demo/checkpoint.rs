//! Writes the model as an ordinary Hugging Face directory.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use candle_core::DType;
use half::bf16;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};
use tokenizers::Tokenizer;

use crate::model::{Decoder, Shape};
use crate::tokenizer::{END_OF_TEXT, END_OF_TEXT_ID};

/// Writes `config.json`, `generation_config.json`, `model.safetensors` (bf16) and the two tokenizer files.
pub(crate) fn write(dir: &Path, decoder: &Decoder, tokenizer: &Tokenizer) -> Result<()> {
    let shape = decoder.shape();
    write_json(&dir.join("config.json"), &config(shape))?;
    write_json(
        &dir.join("generation_config.json"),
        &json!({"bos_token_id": END_OF_TEXT_ID, "eos_token_id": END_OF_TEXT_ID}),
    )?;
    write_json(
        &dir.join("tokenizer_config.json"),
        &json!({
            "bos_token": END_OF_TEXT,
            "clean_up_tokenization_spaces": false,
            "eos_token": END_OF_TEXT,
            "model_max_length": shape.max_positions,
            "tokenizer_class": "PreTrainedTokenizerFast",
            "unk_token": END_OF_TEXT,
        }),
    )?;
    tokenizer
        .save(dir.join("tokenizer.json"), true)
        .map_err(|error| anyhow!("cannot write tokenizer.json: {error}"))?;
    write_weights(&dir.join("model.safetensors"), decoder)
}

fn write_weights(path: &Path, decoder: &Decoder) -> Result<()> {
    let rounded: Vec<(&str, Vec<usize>, Vec<u8>)> = decoder
        .weights()
        .iter()
        .map(|(name, var)| {
            let values = var
                .to_dtype(DType::BF16)?
                .flatten_all()?
                .to_vec1::<bf16>()?;
            Ok((
                name.as_str(),
                var.dims().to_vec(),
                values.into_iter().flat_map(bf16::to_le_bytes).collect(),
            ))
        })
        .collect::<Result<_>>()?;
    let views: Vec<(&str, TensorView<'_>)> = rounded
        .iter()
        .map(|(name, dims, bytes)| Ok((*name, TensorView::new(Dtype::BF16, dims.clone(), bytes)?)))
        .collect::<Result<_>>()?;
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize_to_file(views, Some(metadata), path)
        .with_context(|| format!("cannot write {}", path.display()))
}

fn config(shape: &Shape) -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": false,
        "attention_dropout": 0.0,
        "bos_token_id": END_OF_TEXT_ID,
        "dtype": "bfloat16",
        "eos_token_id": END_OF_TEXT_ID,
        "head_dim": shape.head_dim(),
        "hidden_act": "silu",
        "hidden_size": shape.hidden,
        "initializer_range": 0.02,
        "intermediate_size": shape.intermediate,
        "max_position_embeddings": shape.max_positions,
        "mlp_bias": false,
        "model_type": "llama",
        "num_attention_heads": shape.n_heads,
        "num_hidden_layers": shape.n_blocks,
        "num_key_value_heads": shape.n_kv_heads,
        "pretraining_tp": 1,
        "rms_norm_eps": shape.norm_eps,
        "rope_scaling": null,
        "rope_theta": shape.rope_theta,
        "tie_word_embeddings": true,
        "torch_dtype": "bfloat16",
        "use_cache": true,
        "vocab_size": shape.vocab,
    })
}

fn write_json(path: &Path, document: &Value) -> Result<()> {
    let text = serde_json::to_string_pretty(document)? + "\n";
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
