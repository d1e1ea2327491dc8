//! The program as a user runs it, until it ends.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

/// What the program says with these arguments.
pub(crate) fn secateur(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_secateur"))
        .args(args)
        .output()
        .unwrap()
}

/// Runs `prune --json` and gives the manifest.
pub(crate) fn prune(args: &[&str]) -> Value {
    let output = secateur(&[&["prune", "--json", "--quiet"], args].concat());
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        output.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The digest of a model pruned without a server, by half with 8 windows of 64 tokens of the bundled text and seed 3.
pub(crate) fn undisturbed_digest(model: &Path) -> Value {
    let text = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo/calibration.txt");
    let out = tempfile::tempdir().unwrap();
    let out = out.path().join("out");
    let [model, text, out] = [model, &text, &out].map(|path| path.to_str().unwrap());
    let manifest = prune(&[
        "--model",
        model,
        "--sparsity",
        "0.5",
        "--calibration-file",
        text,
        "--n-samples",
        "8",
        "--seq-len",
        "64",
        "--seed",
        "3",
        "--out",
        out,
    ]);
    manifest["digest"].clone()
}
