//! The bundled model and its text, carried inside the program.

use std::fs;
use std::io;
use std::path::Path;

use crate::corpora::DEMO;
use crate::domain::spec::BUNDLED_MODEL;

/// Where the bundled text lies below the directory that [`unpack`] was given.
pub const CALIBRATION_TEXT: &str = DEMO.calibration.files[0];
/// The part of the text to measure on.
pub const TEST_TEXT: &str = DEMO.evaluation.files[0];

macro_rules! asset {
    ($name:literal) => {
        include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/demo/", $name))
    };
}

const MODEL_FILES: &[(&str, &[u8])] = &[
    ("config.json", asset!("config.json")),
    ("generation_config.json", asset!("generation_config.json")),
    ("model.safetensors", asset!("model.safetensors")),
    ("tokenizer.json", asset!("tokenizer.json")),
    ("tokenizer_config.json", asset!("tokenizer_config.json")),
];

/// Writes the model to `demo/` and its text to `text/` below `dir`, unless they are there already.
pub fn unpack(dir: &Path) -> io::Result<()> {
    for (name, content) in MODEL_FILES {
        write_if_changed(&dir.join(BUNDLED_MODEL).join(name), content)?;
    }
    write_if_changed(&dir.join(CALIBRATION_TEXT), asset!("calibration.txt"))?;
    write_if_changed(&dir.join(TEST_TEXT), asset!("test.txt"))
}

/// Several processes may unpack into one directory: each writes beside, then renames.
fn write_if_changed(path: &Path, content: &[u8]) -> io::Result<()> {
    if fs::read(path).is_ok_and(|present| present == content) {
        return Ok(());
    }
    let dir = path.parent().unwrap_or(path);
    fs::create_dir_all(dir)?;
    let beside = tempfile::NamedTempFile::new_in(dir)?;
    fs::write(beside.path(), content)?;
    beside.persist(path)?;
    Ok(())
}
