//! What a listing, a configuration or an index tells is refused before any weights are fetched.

use std::ffi::OsStr;
use std::fs;

use secateur::domain::{ErrorCode, HubToken};
use secateur::pipeline::hub::{HubModel, HubOptions};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::hub::models::{WEIGHTS, options};
use crate::hub::to_artifact::{hub_with_bundled_model, prune_with};
use crate::support::servers::mock_hub::{MODEL, MockHub};

#[tokio::test]
async fn a_token_is_taken_without_line_ends_and_a_broken_one_is_no_token() {
    let (hub, cache) = (MockHub::with_model().await, TempDir::new().unwrap());
    hub.require_token("right");
    let resolve = async |token: &str| {
        let options = HubOptions {
            token: Some(HubToken::new(token)),
            ..options(&hub, &cache)
        };
        HubModel::resolve(MODEL, "main", &options).await
    };
    for token in ["right", "right\n", " ri\r\nght\r\n", "\tright "] {
        assert!(resolve(token).await.is_ok(), "{token:?}");
    }
    for token in ["ri ght", "rigḥt", "right\u{7f}"] {
        let error = resolve(token).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::ModelAccessDenied);
        assert!(error.to_string().contains("HF_TOKEN"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_of_a_file_with_a_newline_opens_a_gated_model() {
    let (hub, dir) = (hub_with_bundled_model().await, TempDir::new().unwrap());
    hub.require_token("right");
    let output = prune_with(
        &hub,
        dir.path(),
        "out",
        &[("HF_TOKEN", OsStr::new("right\n"))],
    )
    .await;
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn no_weights_are_fetched_of_what_cannot_be_pruned() {
    type Spoil = fn(&MockHub);
    let cases: [(Spoil, &str, &str); 4] = [
        (
            |hub| hub.add("adapter_config.json", b"{}"),
            "unsupported_architecture",
            "adapter_config.json",
        ),
        (
            |hub| {
                hub.remove(WEIGHTS);
                hub.add_large("gptq_model-4bit-128g.safetensors", b"weights");
            },
            "missing_shard",
            "only gptq_model-4bit-128g.safetensors",
        ),
        (
            |hub| hub.remove("tokenizer.json"),
            "tokenizer_missing",
            "has no tokenizer.json",
        ),
        (
            |hub| {
                hub.remove(WEIGHTS);
                hub.add_large("a.safetensors", b"weights");
                let map = json!({"weight_map": {"model.norm.weight": "a.safetensors"}});
                hub.add("model.safetensors.index.json", map.to_string().as_bytes());
            },
            "missing_tensor",
            "tensor \"model",
        ),
    ];
    for (spoil, code, says) in cases {
        let (hub, dir) = (hub_with_bundled_model().await, TempDir::new().unwrap());
        spoil(&hub);
        let output = prune_with(&hub, dir.path(), "out", &[]).await;
        let line = String::from_utf8(output.stderr).unwrap();
        assert!(
            line.starts_with(&format!("error: {code}")) && line.contains(says),
            "{line}"
        );
        for name in [WEIGHTS, "a.safetensors", "gptq_model-4bit-128g.safetensors"] {
            assert_eq!(hub.downloads(name), 0, "{name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn code_that_the_configuration_names_comes_along() {
    let (hub, dir) = (hub_with_bundled_model().await, TempDir::new().unwrap());
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo/config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    config["auto_map"] = json!({"AutoModelForCausalLM": "modeling_x.X"});
    hub.add("config.json", config.to_string().as_bytes());
    hub.add("modeling_x.py", b"x");
    let output = prune_with(&hub, dir.path(), "out", &[]).await;
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(
        fs::read(dir.path().join("out/modeling_x.py")).unwrap(),
        b"x"
    );
}

#[tokio::test]
async fn a_job_fetches_no_index_of_any_length() {
    const INDEX: &str = "model.safetensors.index.json";
    let (hub, cache) = (MockHub::with_model().await, TempDir::new().unwrap());
    hub.remove(WEIGHTS);
    hub.add(INDEX, br#"{"weight_map": {}}"#);
    hub.list_length(INDEX, (64 << 20) + 1);
    let model = HubModel::resolve(MODEL, "main", &options(&hub, &cache)).await;
    let error = model.unwrap().weight_map().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::MalformedCheckpoint);
    assert_eq!(hub.downloads(INDEX), 0);
}
