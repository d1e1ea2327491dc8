//! The bundled model and its text, carried inside the program.

use std::fs;
use std::io;
use std::path::Path;

use crate::models::BUNDLED_MODEL;

macro_rules! bundled {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/demo/", $name)))),*]
    };
}

const FILES: &[(&str, &[u8])] = bundled![
    "calibration.txt",
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "test.txt",
    "tokenizer.json",
    "tokenizer_config.json",
];

/// Writes the bundled files to `demo/` below `dir`, unless they are there already.
pub fn unpack(dir: &Path) -> io::Result<()> {
    let target = dir.join(BUNDLED_MODEL);
    fs::create_dir_all(&target)?;
    for (name, content) in FILES {
        let path = target.join(name);
        if fs::read(&path).is_ok_and(|present| present == *content) {
            continue;
        }
        // Several processes may unpack into one directory: each writes beside, then renames.
        let beside = tempfile::NamedTempFile::new_in(&target)?;
        fs::write(beside.path(), content)?;
        beside.persist(&path)?;
    }
    Ok(())
}
