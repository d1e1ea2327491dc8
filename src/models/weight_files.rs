//! The weight files of a model's directory.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::path::Path;
use std::time::UNIX_EPOCH;

use serde::Deserialize;

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
        let index = fs::read(dir.join(INDEX)).ok()?;
        let shards: BTreeSet<String> = weight_map(&index).ok()?.into_values().collect();
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
