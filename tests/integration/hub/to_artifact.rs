//! From a model on the hub to a pruned artifact, by the program as a user runs it.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::hub::models::WEIGHTS;
use crate::support::servers::mock_hub::{COMMIT, Fault, MODEL, MockHub};

/// A hub that has the bundled model.
pub(crate) async fn hub_with_bundled_model() -> MockHub {
    let hub = MockHub::start().await;
    for entry in
        std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo")).unwrap()
    {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let content = std::fs::read(&path).unwrap();
        if name == WEIGHTS {
            hub.add_large(&name, &content);
        } else {
            hub.add(&name, &content);
        }
    }
    hub
}

async fn prune(hub: &MockHub, dir: &Path) -> Output {
    prune_with(hub, dir, "out", &[]).await
}

/// Prunes the model of the hub into `out` in `dir`.
pub(crate) async fn prune_with(
    hub: &MockHub,
    dir: &Path,
    out: &str,
    variables: &[(&str, &OsStr)],
) -> Output {
    let text = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo/calibration.txt");
    let mut command = Command::new(env!("CARGO_BIN_EXE_secateur"));
    command
        .args([
            "prune",
            "--json",
            "--model",
            MODEL,
            "--sparsity",
            "0.5",
            "--n-samples",
            "2",
            "--seq-len",
            "32",
        ])
        .arg("--calibration-file")
        .arg(text)
        .arg("--out")
        .arg(dir.join(out))
        .env("HF_ENDPOINT", hub.endpoint())
        .env("HF_HOME", dir.join("cache"))
        .env("NO_PROXY", "127.0.0.1")
        .envs(variables.iter().copied());
    tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_of_the_hub_is_pinned_to_its_commit_and_pruned() {
    let (hub, dir) = (hub_with_bundled_model().await, tempfile::tempdir().unwrap());
    let output = prune(&hub, dir.path()).await;
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let manifest: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(manifest["model"]["source"], "hub");
    assert_eq!(manifest["model"]["commit"], COMMIT);
    assert!(dir.path().join("out").join(WEIGHTS).is_file());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_page_never_becomes_weights() {
    let (hub, dir) = (hub_with_bundled_model().await, tempfile::tempdir().unwrap());
    hub.fail_always(WEIGHTS, Fault::Status(403));
    let output = prune(&hub, dir.path()).await;
    assert!(!output.status.success());
    let line = String::from_utf8(output.stderr).unwrap();
    assert!(line.contains("model_access_denied"), "{line}");
    assert!(!dir.path().join("out").try_exists().unwrap());
}
