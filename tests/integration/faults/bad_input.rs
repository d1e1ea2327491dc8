//! Every bad input: a stable code and a clear message, nothing left behind, and a server that goes on.

use std::fs;
use std::path::Path;

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::test_app::TestApp;

/// A copy of the bundled model, changed by `spoil`.
fn model(models: &Path, name: &str, spoil: impl FnOnce(&Path)) {
    let dir = models.join(name);
    fs::create_dir_all(&dir).unwrap();
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), dir.join(entry.file_name())).unwrap();
    }
    spoil(&dir);
}

fn edit_config(dir: &Path, edit: impl FnOnce(&mut Value)) {
    let path = dir.join("config.json");
    let mut config = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    edit(&mut config);
    fs::write(path, config.to_string()).unwrap();
}

fn edit_weights(dir: &Path, edit: impl FnOnce(&mut Vec<u8>)) {
    let path = dir.join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    edit(&mut bytes);
    fs::write(path, bytes).unwrap();
}

/// Renames a tensor in the header to a name of equal length.
fn rename_tensor(bytes: &mut [u8], from: &str, to: &str) {
    let at = bytes
        .windows(from.len())
        .position(|window| window == from.as_bytes())
        .unwrap();
    bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
}

fn spoiled_models(models: &Path) {
    model(models, "good", |_| {});
    model(models, "pickle-only", |dir| {
        fs::rename(dir.join("model.safetensors"), dir.join("pytorch_model.bin")).unwrap();
    });
    model(models, "pickle-renamed", |dir| {
        edit_weights(dir, |bytes| *bytes = b"\x80\x02}q\x00.".to_vec());
    });
    model(models, "zip-renamed", |dir| {
        edit_weights(dir, |bytes| bytes[..4].copy_from_slice(b"PK\x03\x04"));
    });
    model(models, "truncated", |dir| {
        edit_weights(dir, |bytes| bytes.truncate(bytes.len() / 2));
    });
    model(models, "empty-file", |dir| edit_weights(dir, Vec::clear));
    model(models, "header-too-long", |dir| {
        edit_weights(dir, |bytes| {
            bytes[..8].copy_from_slice(&(1u64 << 40).to_le_bytes());
        });
    });
    model(models, "header-bomb", |dir| {
        let header = format!("{{{}}}", " ".repeat(17 << 20));
        edit_weights(dir, |bytes| {
            *bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat();
        });
    });
    model(models, "missing-shard", |dir| {
        fs::remove_file(dir.join("model.safetensors")).unwrap();
        let index =
            json!({"weight_map": {"model.norm.weight": "model-00001-of-00001.safetensors"}});
        fs::write(dir.join("model.safetensors.index.json"), index.to_string()).unwrap();
    });
    model(models, "shard-elsewhere", |dir| {
        fs::remove_file(dir.join("model.safetensors")).unwrap();
        let index = json!({"weight_map": {"model.norm.weight": "../good/model.safetensors"}});
        fs::write(dir.join("model.safetensors.index.json"), index.to_string()).unwrap();
    });
    model(models, "missing-tensor", |dir| {
        edit_weights(dir, |bytes| {
            rename_tensor(bytes, "layers.0.mlp.up_proj", "layers.0.mlp.xx_proj");
        });
    });
    model(models, "other-shape", |dir| {
        edit_config(dir, |config| config["vocab_size"] = json!(77));
    });
    model(models, "no-tokenizer", |dir| {
        fs::remove_file(dir.join("tokenizer.json")).unwrap();
    });
    model(models, "broken-tokenizer", |dir| {
        fs::write(dir.join("tokenizer.json"), "{}").unwrap();
    });
    model(models, "mamba", |dir| {
        edit_config(dir, |config| {
            config["model_type"] = json!("mamba");
            config["architectures"] = json!(["MambaForCausalLM"]);
        });
    });
    model(models, "no-config", |dir| {
        fs::remove_file(dir.join("config.json")).unwrap();
    });
    model(models, "broken-config", |dir| {
        fs::write(dir.join("config.json"), "{\"model_type\":").unwrap();
    });
}

/// The body of a small job, with `changes` over it.
#[expect(
    clippy::needless_pass_by_value,
    reason = "reads better where it is called"
)]
fn body(model: &str, changes: Value) -> Value {
    let mut body = json!({
        "model": {"source": "local", "id": model}, "sparsity": 0.5,
        "calibration": {"dataset": "demo", "n_samples": 2, "seq_len": 32},
        "evaluation": {"perplexity": ["demo"], "seq_len": 32, "windows": 1},
    });
    for (key, value) in changes.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}

/// Models and data of these servers lie below their home.
fn assert_names_no_directory(app: &TestApp, answers: &[Value]) {
    let home = app.home().to_str().unwrap();
    for answer in answers {
        assert!(!answer.to_string().contains(home), "{home} in {answer}");
    }
}

#[tokio::test]
async fn what_can_be_known_at_once_is_refused_at_once() {
    let app = TestApp::real(spoiled_models).await;
    let too_long = json!({"calibration": {"dataset": "demo", "seq_len": 100_000}});
    let absent = json!({"calibration": {"dataset": "local", "path": "absent.txt"}});
    for (body, status, code) in [
        (body("good", absent), 422, "dataset_not_found"),
        (body("nobody", json!({})), 422, "model_not_found"),
        (body("mamba", json!({})), 422, "unsupported_architecture"),
        (body("no-config", json!({})), 422, "invalid_config"),
        (body("broken-config", json!({})), 422, "invalid_config"),
        (
            body("good", json!({"pattern": "3:7", "sparsity": null})),
            422,
            "pattern_mismatch",
        ),
        (body("good", too_long), 422, "seq_len_too_long"),
        (
            body("good", json!({"pattern": "4:2"})),
            400,
            "invalid_request",
        ),
        (
            body("good", json!({"sparsity": 1.0})),
            400,
            "invalid_request",
        ),
        (body("../secrets", json!({})), 400, "invalid_request"),
        (body("/etc", json!({})), 400, "invalid_request"),
        (
            body(
                "x",
                json!({"model": {"source": "hub", "id": "a/b", "revision": "../../x"}}),
            ),
            400,
            "invalid_request",
        ),
        (
            body("x", json!({"model": "../../etc"})),
            400,
            "invalid_request",
        ),
        (
            body(
                "good",
                json!({"calibration": {"dataset": "local", "path": "../x.txt"}}),
            ),
            400,
            "invalid_request",
        ),
        (
            body("good", json!({"name": "x".repeat(100_000)})),
            413,
            "payload_too_large",
        ),
    ] {
        let answer = app.post("/v1/jobs", &body).await;
        let problem = answer.json();
        assert_eq!(
            (answer.status.as_u16(), problem["code"].as_str()),
            (status, Some(code)),
            "{body}: {problem}"
        );
        assert_eq!(answer.header("content-type"), "application/problem+json");
        assert_names_no_directory(&app, &[problem]);
    }
    assert_eq!(app.get("/v1/jobs").await.json()["data"], json!([]));
    assert_eq!(app.get("/readyz").await.status, StatusCode::OK);
    app.stop().await;
}

#[tokio::test]
async fn what_shows_while_it_runs_fails_the_job_and_nothing_else() {
    let app = TestApp::real(spoiled_models).await;
    let short = json!({"calibration": {"dataset": "local", "path": "short.txt", "n_samples": 2, "seq_len": 32}});
    let short_evaluation = json!({"evaluation": {"perplexity": [{"dataset": "local", "path": "short.txt"}], "seq_len": 32}});
    let not_text = json!({"calibration": {"dataset": "local", "path": "binary.txt"}});
    let not_jsonl = json!({"calibration": {"dataset": "local", "path": "broken.jsonl"}});
    for (model, changes, code) in [
        ("pickle-only", json!({}), "unsafe_format"),
        ("pickle-renamed", json!({}), "unsafe_format"),
        ("zip-renamed", json!({}), "unsafe_format"),
        ("truncated", json!({}), "malformed_checkpoint"),
        ("empty-file", json!({}), "malformed_checkpoint"),
        ("header-too-long", json!({}), "malformed_checkpoint"),
        ("header-bomb", json!({}), "malformed_checkpoint"),
        ("missing-shard", json!({}), "missing_shard"),
        ("shard-elsewhere", json!({}), "malformed_checkpoint"),
        ("missing-tensor", json!({}), "missing_tensor"),
        ("other-shape", json!({}), "missing_tensor"),
        ("no-tokenizer", json!({}), "tokenizer_missing"),
        ("broken-tokenizer", json!({}), "tokenizer_invalid"),
        ("good", short, "text_too_short"),
        ("good", short_evaluation, "text_too_short"),
        ("good", not_text, "dataset_invalid"),
        ("good", not_jsonl, "dataset_invalid"),
    ] {
        let answer = app.post("/v1/jobs", &body(model, changes)).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{model}: {answer:?}");
        let job = answer.json();
        let id = job["id"].as_str().unwrap();
        let job = app.job_with_status(id, "failed").await;
        assert_eq!(job["error"]["code"], code, "{model}: {}", job["error"]);
        assert_eq!(job["attempt"], 1, "{model} was tried again");
        let events = app.get(&format!("/v1/jobs/{id}/events")).await.json();
        assert_names_no_directory(&app, &[job, events]);
        let artifacts = app.get(&format!("/v1/jobs/{id}/artifacts")).await;
        assert_eq!(artifacts.status, StatusCode::CONFLICT, "{model}");
    }
    // Everything is still well: a good job runs to its end.
    let job = app.post("/v1/jobs", &body("good", json!({}))).await.json();
    app.job_with_status(job["id"].as_str().unwrap(), "succeeded")
        .await;
    let home = app.stop().await;
    assert_eq!(
        fs::read_dir(home.path().join("scratch")).unwrap().count(),
        0
    );
}
