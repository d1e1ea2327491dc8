//! The influence of blocks, by hand and of a model.

use candle_core::{Device, Tensor};
use serde_json::json;

use super::*;
use crate::checkpoint::Checkpoint;
use crate::model::test_model::{examples, write};
use crate::observer::{PassProgress, Silent};

/// A LLaMA model whose blocks are made by hand: all weights of its linears are zero, but for a feed-forward part.
fn by_hand() -> (tempfile::TempDir, TokenWindows) {
    let mut config = examples().remove(0);
    config["num_hidden_layers"] = json!(2);
    let dir = write(&config);
    let path = dir.path().join("model.safetensors");
    let mut tensors = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
    for (name, tensor) in &mut tensors {
        if name.contains("proj") {
            *tensor = tensor.zeros_like().unwrap();
        }
    }
    // Each token is one feature, 3; the norm before the feed-forward part makes its value nearly 8 = √64.
    let hidden = 64;
    let embedding: Vec<f32> = (0..256 * hidden)
        .map(|at| {
            if at / hidden % hidden == at % hidden {
                3.0
            } else {
                0.0
            }
        })
        .collect();
    let shape = (256, hidden);
    let embedding = Tensor::from_vec(embedding, shape, &Device::Cpu).unwrap();
    tensors.insert("model.embed_tokens.weight".to_owned(), embedding);
    let name = |part: &str| format!("model.layers.1.{part}.weight");
    let ones = Tensor::ones(hidden, candle_core::DType::F32, &Device::Cpu).unwrap();
    tensors.insert(name("post_attention_layernorm"), ones);
    // The first inner feature is silu(8) · 8 for token 0; a sixteenth of it is added to the second feature of the stream.
    let single = |rows: usize, cols: usize, at: usize, value: f32| {
        let mut values = vec![0f32; rows * cols];
        values[at] = value;
        Tensor::from_vec(values, (rows, cols), &Device::Cpu).unwrap()
    };
    tensors.insert(name("mlp.gate_proj"), single(176, hidden, 0, 1.0));
    tensors.insert(name("mlp.up_proj"), single(176, hidden, 0, 1.0));
    tensors.insert(name("mlp.down_proj"), single(hidden, 176, 176, 0.0625));
    candle_core::safetensors::save(&tensors, &path).unwrap();
    (dir, TokenWindows::new(vec![0, 1, 2, 0], 2).unwrap())
}

/// Block 0 changes nothing. Block 1 adds silu(8)·8/16 to another feature of two of the four tokens.
#[test]
fn influence_is_what_it_is_by_hand() {
    let (dir, windows) = by_hand();
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    let decoder = Decoder::open(&checkpoint, &Device::Cpu).unwrap();
    let found = influences(&decoder, &windows, &mut Silent).unwrap();
    let normed = 3.0 / (9.0 / 64.0 + 1e-5f64).sqrt();
    let added = normed / (1.0 + (-normed).exp()) * normed / 16.0;
    let cosine = 3.0 / (9.0 + added * added).sqrt();
    let expected = [0.0, (1.0 - cosine) / 2.0];
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() < 1e-6, "{found}, not {expected}");
    }
    let parts = Blocks.rank(&decoder, &windows, &mut Silent).unwrap();
    let ranks: Vec<_> = parts
        .iter()
        .map(|part| (part.name.as_str(), part.rank))
        .collect();
    assert_eq!(ranks, [("model.layers.0", 0), ("model.layers.1", 1)]);
}

/// Ends the pass after the first block, as asked; keeps the last progress.
#[derive(Default)]
struct Watch {
    pauses: bool,
    last: Option<PassProgress>,
}

impl Observer for Watch {
    fn progress(&mut self, progress: PassProgress) {
        self.last = Some(progress);
    }

    fn should_pause(&self) -> bool {
        self.pauses
    }
}

#[test]
fn every_token_is_counted_once_for_each_block_and_a_pause_ends_the_pass() {
    let (dir, windows) = by_hand();
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    let decoder = Decoder::open(&checkpoint, &Device::Cpu).unwrap();
    let mut watch = Watch::default();
    influences(&decoder, &windows, &mut watch).unwrap();
    let last = watch.last.unwrap();
    assert_eq!((last.blocks, last.tokens, last.total_tokens), (2, 8, 8));
    watch.pauses = true;
    let ended = influences(&decoder, &windows, &mut watch);
    assert!(matches!(ended, Err(EngineError::Stopped)));
    assert_eq!(watch.last.unwrap().blocks, 1);
}

#[test]
fn a_block_that_makes_no_numbers_is_named() {
    let (dir, windows) = by_hand();
    let path = dir.path().join("model.safetensors");
    let mut tensors = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
    let name = "model.layers.1.mlp.down_proj.weight".to_owned();
    let sick = (&tensors[&name] + f64::NAN).unwrap();
    tensors.insert(name, sick);
    candle_core::safetensors::save(&tensors, &path).unwrap();
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    let decoder = Decoder::open(&checkpoint, &Device::Cpu).unwrap();
    let error = influences(&decoder, &windows, &mut Silent).unwrap_err();
    assert!(error.to_string().contains("model.layers.1"), "{error}");
}
