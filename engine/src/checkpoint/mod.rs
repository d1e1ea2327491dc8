//! Hugging Face model directories: opened without trust, read tensor by tensor, copied with pruned tensors in place.

mod copy;
mod header;
mod rewrite;
mod weights;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

pub use copy::PrunedCopy;
pub use header::TensorEntry;
pub(super) use header::read_header;
pub use weights::Weights;

use rayon::prelude::*;

use super::error::{EngineError, Result};

const SINGLE_FILE: &str = "model.safetensors";
const INDEX_FILE: &str = "model.safetensors.index.json";
/// Longest index that is read.
pub const MAX_INDEX_BYTES: u64 = 64 << 20;
/// Bytes of a tensor that one thread reads at a time.
const PIECE_BYTES: u64 = 4 << 20;

/// An open model directory. Tensors are read by position (`pread`), so that nothing of a file stays mapped.
#[derive(Debug)]
pub struct Checkpoint {
    dir: PathBuf,
    has_index: bool,
    shards: Vec<Shard>,
    /// Tensor name → index of its shard.
    places: BTreeMap<String, usize>,
}

#[derive(Debug)]
struct Shard {
    name: String,
    file: File,
    header: header::Header,
    metadata: header::Metadata,
}

impl Checkpoint {
    /// Opens the shards of `dir` and checks their headers, and that the index and the shards agree.
    pub fn open(dir: &Path) -> Result<Self> {
        let listed = shard_names(dir)?;
        let mut shards = Vec::with_capacity(listed.names.len());
        let mut places = BTreeMap::new();
        for name in listed.names {
            let path = dir.join(&name);
            let mut file = open_regular(&path).map_err(|error| match error.kind() {
                std::io::ErrorKind::NotFound => EngineError::MissingShard {
                    shard: name.clone(),
                    dir: dir.to_path_buf(),
                },
                _ => EngineError::Io {
                    action: "open",
                    path: path.clone(),
                    source: error,
                },
            })?;
            let (header, metadata) = header::read_header_and_metadata(&mut file, &path)?;
            // A tensor that the index places in another shard is superseded here.
            let is_superseded = |tensor: &str| {
                let place = listed.weight_map.get(tensor);
                place.is_some_and(|shard| *shard != name)
            };
            for tensor in header.keys().filter(|tensor| !is_superseded(tensor)) {
                if places.insert(tensor.clone(), shards.len()).is_some() {
                    let reason = format!("tensor {tensor:?} stands in an earlier shard too");
                    return Err(EngineError::MalformedCheckpoint { path, reason });
                }
            }
            shards.push(Shard {
                name,
                file,
                header,
                metadata,
            });
        }
        for (tensor, shard) in &listed.weight_map {
            if places
                .get(tensor)
                .is_none_or(|&place| shards[place].name != *shard)
            {
                let reason =
                    format!("the index places tensor {tensor:?} in {shard}, where it is not");
                return Err(EngineError::MalformedCheckpoint {
                    path: dir.join(INDEX_FILE),
                    reason,
                });
            }
        }
        Ok(Self {
            dir: dir.to_path_buf(),
            has_index: !listed.weight_map.is_empty(),
            shards,
            places,
        })
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// File names of the shards, sorted.
    pub fn shard_names(&self) -> impl Iterator<Item = &str> {
        self.shards.iter().map(|shard| shard.name.as_str())
    }

    /// Names of all tensors, sorted.
    pub fn tensor_names(&self) -> impl Iterator<Item = &str> {
        self.places.keys().map(String::as_str)
    }

    /// Number of weights in all tensors.
    pub fn parameters(&self) -> u64 {
        let places = self.places.iter();
        let entries = places.map(|(name, &shard)| &self.shards[shard].header[name]);
        entries.map(TensorEntry::elements).sum()
    }

    /// Bytes of the tensors of all shards.
    pub fn tensor_bytes(&self) -> u64 {
        self.shards
            .iter()
            .flat_map(|shard| shard.header.values())
            .map(|entry| entry.len)
            .sum()
    }

    /// Bytes of a tensor in its file; 0 if there is none of this name.
    pub(crate) fn bytes_of(&self, name: &str) -> u64 {
        self.find(name).map_or(0, |(_, entry)| entry.len)
    }

    /// Whether there is a tensor of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    /// Where a tensor lies; checked to have this shape and a float dtype.
    pub(crate) fn expect(&self, name: &str, shape: &[usize]) -> Result<&TensorEntry> {
        let (_, entry) = self.find(name)?;
        if entry.shape != shape {
            let (actual, expected) = (entry.shape.clone(), shape.to_vec());
            return Err(EngineError::ShapeMismatch {
                name: name.to_owned(),
                actual,
                expected,
            });
        }
        if Weights::zeros(&entry.dtype, 0).is_none() {
            return Err(EngineError::UnsupportedDtype {
                name: name.to_owned(),
                dtype: entry.dtype.clone(),
            });
        }
        Ok(entry)
    }

    /// Reads a whole tensor.
    pub fn read(&self, name: &str) -> Result<Weights> {
        let (shard, entry) = self.find(name)?;
        self.read_range(shard, entry, name, 0, entry.len)
    }

    /// Number of zeros of a tensor, of either sign: its pieces are read and counted on all threads.
    pub fn count_zeros(&self, name: &str) -> Result<u64> {
        let (shard, entry) = self.find(name)?;
        let pieces = (0..entry.len.div_ceil(PIECE_BYTES)).into_par_iter();
        let zeros = pieces.map(|piece| {
            let start = piece * PIECE_BYTES;
            let len = PIECE_BYTES.min(entry.len - start);
            let weights = self.read_range(shard, entry, name, start, len);
            weights.map(|weights| weights.count_zeros())
        });
        zeros.sum()
    }

    /// Reads row `row` of a matrix `[rows, cols]`.
    pub(crate) fn read_row(&self, name: &str, row: usize) -> Result<Weights> {
        let (shard, entry) = self.find(name)?;
        let row_bytes = entry.len / entry.shape[0] as u64;
        self.read_range(shard, entry, name, row as u64 * row_bytes, row_bytes)
    }

    /// Whether two matrices have the same dtype, shape and bytes.
    pub(crate) fn are_equal(&self, first: &str, second: &str) -> Result<bool> {
        let ((_, a), (_, b)) = (self.find(first)?, self.find(second)?);
        if (&a.dtype, &a.shape) != (&b.dtype, &b.shape) {
            return Ok(false);
        }
        for row in 0..a.shape[0] {
            if self.read_row(first, row)? != self.read_row(second, row)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn find(&self, name: &str) -> Result<(&Shard, &TensorEntry)> {
        let shard = &self.shards[*self
            .places
            .get(name)
            .ok_or_else(|| EngineError::MissingTensor(name.to_owned()))?];
        Ok((shard, &shard.header[name]))
    }

    fn read_range(
        &self,
        shard: &Shard,
        entry: &TensorEntry,
        name: &str,
        start: u64,
        len: u64,
    ) -> Result<Weights> {
        let mut weights = entry.blank(name, len)?;
        shard
            .file
            .read_exact_at(weights.as_bytes_mut(), entry.offset + start)
            .map_err(EngineError::io("read", &self.dir.join(&shard.name)))?;
        Ok(weights)
    }
}

#[derive(serde::Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

struct ListedShards {
    names: Vec<String>,
    /// Empty without an index.
    weight_map: BTreeMap<String, String>,
}

/// `model.safetensors` if it is there, as in transformers; otherwise the shards of the index.
fn shard_names(dir: &Path) -> Result<ListedShards> {
    let single = dir.join(SINGLE_FILE);
    if single
        .try_exists()
        .map_err(EngineError::io("look for", &single))?
    {
        return Ok(ListedShards {
            names: vec![SINGLE_FILE.to_owned()],
            weight_map: BTreeMap::new(),
        });
    }
    let index_path = dir.join(INDEX_FILE);
    let bytes = match read_small_file(&index_path, MAX_INDEX_BYTES) {
        Err(EngineError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            return Err(no_weights(dir)?);
        }
        bytes => bytes?,
    };
    let malformed = |reason: String| EngineError::MalformedCheckpoint {
        path: index_path.clone(),
        reason,
    };
    if is_lfs_pointer(&bytes) {
        return Err(malformed(LFS_POINTER.to_owned()));
    }
    let index: Index = serde_json::from_slice(&bytes).map_err(|e| malformed(e.to_string()))?;
    let names: BTreeSet<String> = index.weight_map.values().cloned().collect();
    if names.is_empty() {
        return Err(malformed("the index names no shard".to_owned()));
    }
    if let Some(name) = names.iter().find(|name| !is_shard_name(name)) {
        return Err(malformed(format!(
            "{name:?} is not a name of a safetensors file in this directory"
        )));
    }
    Ok(ListedShards {
        names: names.into_iter().collect(),
        weight_map: index.weight_map,
    })
}

/// A plain file name ending in `.safetensors`: an index must not lead out of its directory.
pub fn is_shard_name(name: &str) -> bool {
    name.strip_suffix(".safetensors").is_some_and(|stem| {
        !stem.is_empty()
            && !stem.starts_with('.')
            && stem
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    })
}

/// Endings of weights that are not read.
const OTHER_FORMATS: [&str; 8] = [
    ".bin", ".pt", ".pth", ".ckpt", ".pkl", ".gguf", ".npz", ".h5",
];

/// The error of a directory with neither weights nor an index: it names what is there instead.
fn no_weights(dir: &Path) -> Result<EngineError> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(EngineError::io("list", dir))? {
        let name = entry.map_err(EngineError::io("list", dir))?.file_name();
        found.push(name.to_string_lossy().into_owned());
    }
    found.sort();
    let mut others = found.iter();
    let other = others.find(|name| OTHER_FORMATS.iter().any(|ending| name.ends_with(ending)));
    if let Some(name) = other {
        return Ok(EngineError::UnsafeFormat(format!(
            "the model has {name} and no {SINGLE_FILE}; only safetensors is accepted"
        )));
    }
    found.retain(|name| name.ends_with(".safetensors"));
    Ok(EngineError::MissingWeights {
        dir: dir.to_path_buf(),
        found,
    })
}

/// What is wrong with a file that was cloned without its content.
pub const LFS_POINTER: &str = "it is a pointer of Git LFS, not the file itself: run `git lfs pull`";

/// Whether a file's first bytes are those of a pointer of Git LFS.
pub fn is_lfs_pointer(head: &[u8]) -> bool {
    head.starts_with(b"version https://git-lfs.github.com/spec/")
}

/// Reads a regular file of at most `limit` bytes: a pipe or a device would never end.
pub fn read_small_file(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_regular(path)
        .and_then(|file| file.take(limit + 1).read_to_end(&mut bytes))
        .map_err(EngineError::io("read", path))?;
    if bytes.len() as u64 > limit {
        let reason = format!("the file has more than {limit} bytes");
        return Err(EngineError::MalformedCheckpoint {
            path: path.to_path_buf(),
            reason,
        });
    }
    Ok(bytes)
}

/// Opens a file, but no pipe and no device: opening these may wait for ever.
fn open_regular(path: &Path) -> std::io::Result<File> {
    if std::fs::metadata(path)?.is_file() {
        File::open(path)
    } else {
        Err(std::io::Error::other("it is not a regular file"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_are_counted_in_every_piece_of_a_tensor() {
        let n = usize::try_from(2 * PIECE_BYTES).unwrap() / size_of::<f32>() + 100;
        let values = (0..n).map(|i| if i % 3 == 0 { -0.0 } else { 1.0f32 });
        let bytes = values.flat_map(f32::to_le_bytes);
        let header = format!(
            r#"{{"w":{{"dtype":"F32","shape":[{n}],"data_offsets":[0,{}]}}}}"#,
            n * size_of::<f32>()
        );
        let file = (header.len() as u64).to_le_bytes().into_iter();
        let file: Vec<u8> = file.chain(header.into_bytes()).chain(bytes).collect();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(SINGLE_FILE), file).unwrap();
        let checkpoint = Checkpoint::open(dir.path()).unwrap();
        assert_eq!(checkpoint.count_zeros("w").unwrap(), n.div_ceil(3) as u64);
    }
}
