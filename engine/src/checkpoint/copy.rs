//! The pruned copy of a checkpoint: same files, same names, same layout, with the pruned tensors overwritten.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::{Checkpoint, INDEX_FILE, Weights};
use crate::error::{EngineError, Result};

/// What belongs to a model besides its shards. Weights in other formats, caches and subdirectories do not.
const COMPANION_SUFFIXES: &[&str] = &[".json", ".model", ".txt", ".jinja", ".md", ".py"];
const COMPANION_STEMS: &[&str] = &["LICENSE", "NOTICE", "USE_POLICY"];
/// Provenance of an earlier pruning does not describe this one.
const MANIFEST: &str = "secateur.json";
const INDEX_SUFFIX: &str = ".index.json";

/// A copy of a [`Checkpoint`] whose tensors can be overwritten. Pruning keeps dtype and shape, so every tensor has
/// its place already: the whole model is never in memory, and unpruned tensors stay byte-identical.
#[derive(Debug)]
pub struct PrunedCopy {
    dir: PathBuf,
    shards: BTreeMap<String, File>,
}

impl PrunedCopy {
    /// Copies `source` into the existing directory `dir`.
    pub fn create(source: &Checkpoint, dir: &Path) -> Result<Self> {
        for name in source.shard_names() {
            copy_file(&source.dir().join(name), &dir.join(name))?;
        }
        Self::open(source, dir)
    }

    /// Opens a copy made earlier, to go on with it; `None` if it is not there or not whole.
    pub fn reopen(source: &Checkpoint, dir: &Path) -> Result<Option<Self>> {
        for name in source.shard_names() {
            let len = |dir: &Path| fs::metadata(dir.join(name)).map(|metadata| metadata.len());
            let of_source = len(source.dir()).map_err(EngineError::io("read", source.dir()))?;
            if len(dir).ok() != Some(of_source) {
                return Ok(None);
            }
        }
        Self::open(source, dir).map(Some)
    }

    fn open(source: &Checkpoint, dir: &Path) -> Result<Self> {
        for name in source.companion_files()? {
            copy_file(&source.dir().join(&name), &dir.join(&name))?;
        }
        let mut shards = BTreeMap::new();
        for name in source.shard_names() {
            let path = dir.join(name);
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .open(&path)
                .map_err(EngineError::io("open", &path))?;
            shards.insert(name.to_owned(), file);
        }
        Ok(Self {
            dir: dir.to_path_buf(),
            shards,
        })
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Reads one tensor as it is now; `source` knows where it lies.
    pub(crate) fn read(&self, source: &Checkpoint, name: &str) -> Result<Weights> {
        let (shard, entry) = source.find(name)?;
        let mut weights = entry.blank(name, entry.len)?;
        self.shards[&shard.name]
            .read_exact_at(weights.as_bytes_mut(), entry.offset)
            .map_err(EngineError::io("read", &self.dir.join(&shard.name)))?;
        Ok(weights)
    }

    /// Overwrites one tensor; `weights` must have the dtype and length it has in `source`.
    pub(crate) fn overwrite(
        &self,
        source: &Checkpoint,
        name: &str,
        weights: &Weights,
    ) -> Result<()> {
        let (shard, entry) = source.find(name)?;
        debug_assert_eq!(
            entry.len,
            weights.as_bytes().len() as u64,
            "{name} changed its length"
        );
        self.shards[&shard.name]
            .write_all_at(weights.as_bytes(), entry.offset)
            .map_err(EngineError::io("write", &self.dir.join(&shard.name)))
    }

    /// Waits until everything written so far is on disk.
    pub fn sync(&self) -> Result<()> {
        for (name, file) in &self.shards {
            file.sync_data()
                .map_err(EngineError::io("sync", &self.dir.join(name)))?;
        }
        File::open(&self.dir)
            .and_then(|dir| dir.sync_all())
            .map_err(EngineError::io("sync", &self.dir))
    }
}

impl Checkpoint {
    /// Names of the files that go along with the weights. A link that leads out of the directory is refused: its content
    /// would be handed out with the artifact.
    pub fn companion_files(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(EngineError::io("list", &self.dir))? {
            let entry = entry.map_err(EngineError::io("list", &self.dir))?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            if self.is_companion(&name) && !entry.path().is_dir() {
                names.push(name);
            }
        }
        names.sort();
        let mut links = names.iter();
        match links.find(|name| !is_own_file(&self.dir, &self.dir.join(name))) {
            Some(name) => Err(EngineError::LinkedFile { name: name.clone() }),
            None => Ok(names),
        }
    }

    /// Names are plain, so that every store and every system takes them. An index that was not read describes other files.
    fn is_companion(&self, name: &str) -> bool {
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.+ ()".contains(&b);
        let belongs = COMPANION_SUFFIXES.iter().any(|end| name.ends_with(end))
            || COMPANION_STEMS.iter().any(|stem| name.starts_with(stem));
        let is_stale_index =
            name.ends_with(INDEX_SUFFIX) && !(name == INDEX_FILE && self.has_index);
        let is_shown = !name.starts_with('.') && name.bytes().all(is_plain);
        belongs && is_shown && !is_stale_index && name != MANIFEST
    }
}

/// A regular file of this directory, or a link into the blobs of a hub cache.
fn is_own_file(dir: &Path, path: &Path) -> bool {
    let (Ok(home), Ok(real)) = (dir.canonicalize(), path.canonicalize()) else {
        return false;
    };
    let blobs = home.ancestors().nth(2).map(|cache| cache.join("blobs"));
    real.is_file()
        && (real.starts_with(&home) || blobs.is_some_and(|blobs| real.starts_with(blobs)))
}

/// Copies content durably, but not the mode: a read-only source must give a copy that can be written to.
pub(super) fn copy_file(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).map_err(EngineError::io("copy", from))?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o644))
        .map_err(EngineError::io("set the mode of", to))?;
    File::open(to)
        .and_then(|file| file.sync_all())
        .map_err(EngineError::io("sync", to))
}
