//! Models with experts against plain loops in double precision: statistics of the tokens that each expert reads, masks,
//! losses before and after.

mod plain;

use std::path::Path;

use secateur::engine::TokenWindows;
use serde_json::{Value, json};

use self::plain::PlainModel;
use super::families::write_random_weights;
use super::reference::{
    Tensors, assert_close, half, mean_nll, method, prune_model, reference_dir, weights,
};

fn check_against_plain_loops(dir: &Path, windows: &TokenWindows) {
    let sequences: Vec<&[u32]> = windows.ids().chunks(windows.seq_len()).collect();
    let dense = PlainModel::read(dir).mean_loss(&sequences);
    assert_close(mean_nll(dir, windows), dense, 1e-5, "dense");
    for (pattern, group) in [("unstructured", None), ("2:4", Some(4))] {
        let mut plain = PlainModel::read(dir);
        let seen = plain.wanda(&sequences, group);
        let pruned = prune_model(dir, method("wanda"), half(pattern), windows);
        for (linear, (expected, tokens)) in &seen {
            assert_eq!(pruned.outcomes[linear].input_tokens, *tokens, "{linear}");
            for (sum, expected) in pruned.sums[linear].iter().zip(expected) {
                assert_close(*sum, *expected, 1e-5, linear);
            }
            let found = weights(pruned.dir.path(), linear);
            let is_zero = found.iter().map(|w| *w == 0.0);
            let expected = plain.weight(linear).iter().map(|w| *w == 0.0);
            assert!(
                is_zero.eq(expected),
                "{pattern}: the mask of {linear} differs"
            );
        }
        assert_eq!(
            seen.len(),
            pruned.outcomes.len(),
            "every expert reads a token"
        );
        let expected = plain.mean_loss(&sequences);
        assert_close(
            mean_nll(pruned.dir.path(), windows),
            expected,
            1e-5,
            pattern,
        );
    }
}

fn check_reference_model(family: &str) {
    let Some(dir) = reference_dir().map(|dir| dir.join("families").join(family)) else {
        return;
    };
    let windows = Tensors::read(&dir.join("golden.safetensors")).windows("input_ids");
    check_against_plain_loops(&dir, &windows);
}

#[test]
fn mixtral_of_the_reference_is_pruned_as_by_plain_loops() {
    check_reference_model("mixtral");
}

#[test]
fn qwen3_moe_of_the_reference_is_pruned_as_by_plain_loops() {
    check_reference_model("qwen3-moe");
}

/// A model at random with other values of some keys.
fn check_random_model(keys: &Value) {
    let mut config = json!({
        "hidden_size": 32, "intermediate_size": 48, "moe_intermediate_size": 20, "num_hidden_layers": 3,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "vocab_size": 64, "rms_norm_eps": 1e-5,
        "max_position_embeddings": 64, "num_experts": 6, "num_experts_per_tok": 3,
        "rope_parameters": {"rope_type": "default", "rope_theta": 5e4},
    });
    for (key, value) in keys.as_object().unwrap() {
        config[key] = value.clone();
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
    write_random_weights(&dir.path().join("model.safetensors"), &config, 1.0);
    let ids = (0..8 * 16_u32).map(|i| i * i % 61).collect();
    check_against_plain_loops(dir.path(), &TokenWindows::new(ids, 16).unwrap());
}

#[test]
fn gates_are_renormalised_or_not_as_the_class_or_the_configuration_says() {
    check_random_model(&json!({"model_type": "mixtral"}));
    for renormalises in [true, false] {
        check_random_model(&json!({"model_type": "qwen3_moe", "norm_topk_prob": renormalises}));
    }
}

#[test]
fn some_blocks_have_no_experts_where_the_configuration_says_so() {
    check_random_model(&json!({"model_type": "qwen3_moe", "mlp_only_layers": [1]}));
    check_random_model(&json!({"model_type": "qwen3_moe", "decoder_sparse_step": 2}));
}
