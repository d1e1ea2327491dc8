//! Model directories with the bundled tokenizer, for tests.

use std::fs;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

/// Ids of the bundled tokenizer, and some more.
pub(super) const VOCAB: usize = 800;

pub(super) fn bundled_tokenizer() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo/tokenizer.json");
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// A directory with the bundled tokenizer and these files.
pub(super) fn model(files: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let tokenizer = bundled_tokenizer().to_string();
    for (name, content) in [("tokenizer.json", tokenizer.as_str())].iter().chain(files) {
        fs::write(dir.path().join(name), content).unwrap();
    }
    dir
}
