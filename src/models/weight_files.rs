//! The weight files of a model's directory.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde::Deserialize;

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// Bytes of the files that hold a model's weights; `None` unless all of them are there.
pub(super) fn size_bytes(dir: &Path) -> Option<u64> {
    // The single file wins, as where weights are read. A link to a file that was never finished leads nowhere.
    let length = |name: &str| fs::metadata(dir.join(name)).ok().map(|file| file.len());
    if let Some(bytes) = length(SINGLE) {
        return Some(bytes);
    }
    let index = fs::read(dir.join(INDEX)).ok()?;
    let shards: BTreeSet<String> = weight_map(&index).ok()?.into_values().collect();
    shards.iter().map(|shard| length(shard)).sum()
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
