//! A copy of a checkpoint without some of its tensors, the others under new names.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::copy::copy_file;
use super::header::METADATA;
use super::{
    Checkpoint, INDEX_FILE, MAX_INDEX_BYTES, PIECE_BYTES, Shard, TensorEntry, read_small_file,
};
use crate::error::{EngineError, Result};

const CONFIG_FILE: &str = "config.json";
/// Where the data of a file begins is a multiple of this, as other writers have it.
const ALIGNMENT: usize = 8;

impl Checkpoint {
    /// Writes a checkpoint into the empty directory `dir`: `config` in place of `config.json`, every tensor under its name
    /// by `rename`, or not at all.
    ///
    /// Shards, the order of tensors in them, their bytes and all other files stay. A shard that nothing is left of goes.
    pub(crate) fn rewrite(
        &self,
        dir: &Path,
        config: &[u8],
        rename: impl Fn(&str) -> Option<String>,
    ) -> Result<()> {
        for name in self.companion_files()? {
            if ![CONFIG_FILE, INDEX_FILE].contains(&name.as_str()) {
                copy_file(&self.dir.join(&name), &dir.join(&name))?;
            }
        }
        write_file(&dir.join(CONFIG_FILE), config)?;
        let mut written = Written::default();
        for (place, shard) in self.shards.iter().enumerate() {
            let tensors = shard.header.iter();
            let own = tensors.filter(|(name, _)| self.places.get(*name) == Some(&place));
            let mut kept: Vec<_> = own
                .filter_map(|(name, entry)| Some((rename(name)?, entry)))
                .collect();
            kept.sort_by_key(|(_, entry)| entry.offset);
            if !kept.is_empty() {
                self.write_shard(&dir.join(&shard.name), shard, &kept)?;
                written.add(&shard.name, kept);
            }
        }
        if self.has_index {
            write_file(&dir.join(INDEX_FILE), &self.index_of(&written)?)?;
        }
        File::open(dir)
            .and_then(|dir| dir.sync_all())
            .map_err(EngineError::io("sync", dir))
    }

    /// Tensors in this order, piece by piece.
    fn write_shard(
        &self,
        path: &Path,
        shard: &Shard,
        kept: &[(String, &TensorEntry)],
    ) -> Result<()> {
        let write_error = || EngineError::io("write", path);
        let mut file = File::create(path).map_err(write_error())?;
        file.write_all(&header_of(shard, kept))
            .map_err(write_error())?;
        let mut piece = Vec::new();
        for (_, entry) in kept {
            for start in (0..entry.len.div_ceil(PIECE_BYTES)).map(|number| number * PIECE_BYTES) {
                let len = PIECE_BYTES.min(entry.len - start);
                piece.resize(usize::try_from(len).unwrap_or(usize::MAX), 0);
                shard
                    .file
                    .read_exact_at(&mut piece, entry.offset + start)
                    .map_err(EngineError::io("read", &self.dir.join(&shard.name)))?;
                file.write_all(&piece).map_err(write_error())?;
            }
        }
        file.sync_all().map_err(write_error())
    }

    /// The index with the places of what was written, and what it says besides.
    fn index_of(&self, written: &Written) -> Result<Vec<u8>> {
        let path = self.dir.join(INDEX_FILE);
        let malformed = |reason: String| EngineError::MalformedCheckpoint {
            path: path.clone(),
            reason,
        };
        let bytes = read_small_file(&path, MAX_INDEX_BYTES)?;
        let mut index: Map<String, Value> =
            serde_json::from_slice(&bytes).map_err(|error| malformed(error.to_string()))?;
        let metadata = index.entry("metadata").or_insert_with(|| json!({}));
        if let Some(metadata) = metadata.as_object_mut() {
            metadata.insert("total_size".to_owned(), json!(written.bytes));
            if let Some(total) = metadata.get_mut("total_parameters") {
                *total = json!(written.parameters);
            }
        }
        index.insert("weight_map".to_owned(), json!(written.places));
        let mut bytes =
            serde_json::to_vec_pretty(&index).map_err(|error| malformed(error.to_string()))?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}

/// What was written into all shards.
#[derive(Default)]
struct Written {
    /// Tensor name → shard.
    places: BTreeMap<String, String>,
    parameters: u64,
    bytes: u64,
}

impl Written {
    fn add(&mut self, shard: &str, tensors: Vec<(String, &TensorEntry)>) {
        for (name, entry) in tensors {
            self.parameters += entry.elements();
            self.bytes += entry.len;
            self.places.insert(name, shard.to_owned());
        }
    }
}

/// The first bytes of a file with these tensors, one behind the other.
fn header_of(shard: &Shard, tensors: &[(String, &TensorEntry)]) -> Vec<u8> {
    let mut header = Map::new();
    if !shard.metadata.is_empty() {
        header.insert(METADATA.to_owned(), json!(shard.metadata));
    }
    let mut end = 0;
    for (
        name,
        TensorEntry {
            dtype, shape, len, ..
        },
    ) in tensors
    {
        let offsets = [end, end + len];
        end += len;
        let entry = json!({"dtype": dtype, "shape": shape, "data_offsets": offsets});
        header.insert(name.clone(), entry);
    }
    let mut json = Value::Object(header).to_string().into_bytes();
    json.resize(json.len().next_multiple_of(ALIGNMENT), b' ');
    let length = (json.len() as u64).to_le_bytes();
    [&length[..], &json].concat()
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes)
        .and_then(|()| File::open(path)?.sync_all())
        .map_err(EngineError::io("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two tensors, whose names are out of the order of their bytes, and what is said of the file.
    fn write_source(dir: &Path, name: &str, tensors: [(&str, u8); 2]) {
        let [(first, a), (second, b)] = tensors;
        let header = format!(
            r#"{{"{first}":{{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}},"{second}":{{"dtype":"F32","shape":[1],"data_offsets":[4,8]}},"__metadata__":{{"format":"pt"}}}}"#
        );
        let length = (header.len() as u64).to_le_bytes();
        let bytes = [&length[..], header.as_bytes(), &[a; 4], &[b; 4]].concat();
        fs::write(dir.join(name), bytes).unwrap();
    }

    #[test]
    fn the_rest_of_a_sharded_checkpoint_is_one_itself() {
        let (source, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let [a, b] = [
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
        ];
        write_source(source.path(), a, [("z", 1), ("b", 2)]);
        write_source(source.path(), b, [("c", 3), ("d", 4)]);
        let index = json!({
            "metadata": {"total_size": 16, "total_parameters": 6, "own": "word"},
            "weight_map": {"z": a, "b": a, "c": b, "d": b},
        });
        fs::write(source.path().join(INDEX_FILE), index.to_string()).unwrap();
        fs::write(source.path().join("tokenizer.json"), "{}").unwrap();
        let checkpoint = Checkpoint::open(source.path()).unwrap();
        let rename = |name: &str| match name {
            "z" => Some("z".to_owned()),
            "b" => Some("y".to_owned()),
            _ => None,
        };
        checkpoint.rewrite(out.path(), b"{ }", rename).unwrap();

        let rest = Checkpoint::open(out.path()).unwrap();
        assert_eq!(rest.tensor_names().collect::<Vec<_>>(), ["y", "z"]);
        assert_eq!(rest.read("z").unwrap().as_bytes(), [1; 4]);
        assert_eq!(rest.read("y").unwrap().as_bytes(), [2; 4]);
        let bytes = fs::read(out.path().join(a)).unwrap();
        assert_eq!(bytes.len() % ALIGNMENT, 0);
        assert!(bytes.windows(4).any(|at| at == b"\"pt\""));
        assert!(!out.path().join(b).try_exists().unwrap());
        let index: Value =
            serde_json::from_slice(&fs::read(out.path().join(INDEX_FILE)).unwrap()).unwrap();
        let expected = json!({
            "metadata": {"total_size": 8, "total_parameters": 3, "own": "word"},
            "weight_map": {"z": a, "y": a},
        });
        assert_eq!(index, expected);
        assert_eq!(fs::read(out.path().join(CONFIG_FILE)).unwrap(), b"{ }");
        assert!(out.path().join("tokenizer.json").is_file());
    }
}
