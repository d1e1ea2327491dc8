//! The weight files of a model's directory.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::path::Path;
use std::time::UNIX_EPOCH;

use serde::Deserialize;

use crate::engine::checkpoint::{MAX_INDEX_BYTES, is_shard_name, read_small_file};

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// Bytes of the files that hold a model's weights; `None` unless all of them are there.
pub(super) fn size_bytes(dir: &Path) -> Option<u64> {
    Some(size_and_age(dir)?.0)
}

/// The same, and when the youngest of them was written, in milliseconds of Unix time.
pub(super) fn size_and_age(dir: &Path) -> Option<(u64, u64)> {
    // The single file wins, as where weights are read. A link to a file that was never finished leads nowhere.
    let look = |name: &str| fs::metadata(dir.join(name)).ok();
    let files: Vec<Metadata> = if let Some(single) = look(SINGLE) {
        vec![single]
    } else {
        let shards: BTreeSet<String> = weight_map_of(dir)?.into_values().collect();
        shards
            .iter()
            .map(|shard| look(shard))
            .collect::<Option<_>>()?
    };
    let changed = files.iter().filter_map(|file| file.modified().ok());
    let youngest = changed
        .filter_map(|time| time.duration_since(UNIX_EPOCH).ok())
        .max();
    let bytes = files.iter().map(Metadata::len).sum();
    Some((
        bytes,
        u64::try_from(youngest.unwrap_or_default().as_millis()).ok()?,
    ))
}

/// The shard of each tensor, as an index names it.
pub fn weight_map(text: &[u8]) -> serde_json::Result<BTreeMap<String, String>> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let index: Index = serde_json::from_slice(text)?;
    Ok(index.weight_map)
}

/// The same by the index of a directory; `None` where that is too long, or leads out of the directory.
pub fn weight_map_of(dir: &Path) -> Option<BTreeMap<String, String>> {
    let index = read_small_file(&dir.join(INDEX), MAX_INDEX_BYTES).ok()?;
    let map = weight_map(&index).ok()?;
    map.values()
        .all(|shard| is_shard_name(shard))
        .then_some(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index_of(shard: &str) -> String {
        format!(r#"{{"weight_map": {{"tensor": "{shard}"}}}}"#)
    }

    #[test]
    fn an_index_leads_to_no_file_outside_its_directory() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("model");
        fs::create_dir_all(dir.join("below")).unwrap();
        for name in [
            "secret.safetensors",
            "model/own.safetensors",
            "model/below/a.safetensors",
        ] {
            fs::write(root.path().join(name), "12345").unwrap();
        }
        let outside = root.path().join("secret.safetensors");
        let size = |shard: &str| {
            fs::write(dir.join(INDEX), index_of(shard)).unwrap();
            size_bytes(&dir)
        };
        assert_eq!(size("own.safetensors"), Some(5));
        for shard in [
            outside.to_str().unwrap(),
            "../secret.safetensors",
            "below/a.safetensors",
            "..",
        ] {
            assert_eq!(size(shard), None, "{shard}");
        }
    }

    #[test]
    fn an_index_of_any_length_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let text = index_of("own.safetensors");
        fs::write(dir.path().join("own.safetensors"), "12345").unwrap();
        let index = dir.path().join(INDEX);
        fs::write(&index, &text).unwrap();
        assert!(weight_map_of(dir.path()).is_some());
        // Blanks are JSON, so that nothing but the length is wrong.
        let padding = usize::try_from(MAX_INDEX_BYTES).unwrap() + 1 - text.len();
        fs::write(&index, text + &" ".repeat(padding)).unwrap();
        assert_eq!(weight_map_of(dir.path()), None);
    }
}
