//! Scores by what they are scores of, so that nothing is measured twice: a dense model is measured once for all the jobs
//! that prune it, and a job that was killed goes on with the task it was in.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

use crate::pipeline::PipelineError;

/// Entries that are kept; beyond that the oldest go.
const MAX_ENTRIES: usize = 1000;

/// Grows whenever what is kept, or how it is computed, changes.
const ENTRY_FORMAT: u32 = 1;

/// A directory of scores; `None` = nothing is kept.
#[derive(Debug, Clone)]
pub(super) struct ScoreCache {
    dir: Option<PathBuf>,
}

/// Digest of everything that scores depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key(String);

/// Builder of a key from its parts.
pub(super) struct KeyBuilder(Sha256);

impl KeyBuilder {
    /// The model, by the fingerprint of its weights and configuration, and the program's version.
    pub(super) fn new(model: &str) -> Self {
        Self(Sha256::new())
            .with(env!("CARGO_PKG_VERSION").as_bytes())
            .with(&ENTRY_FORMAT.to_le_bytes())
            .with(model.as_bytes())
    }

    /// One more part. Its length goes in, too, so that parts cannot run into each other.
    pub(super) fn with(mut self, part: &[u8]) -> Self {
        self.0.update((part.len() as u64).to_le_bytes());
        self.0.update(part);
        self
    }

    /// Token ids.
    pub(super) fn with_tokens(mut self, tokens: &[u32]) -> Self {
        self.0.update((tokens.len() as u64).to_le_bytes());
        for token in tokens {
            self.0.update(token.to_le_bytes());
        }
        self
    }

    /// The key.
    pub(super) fn finish(self) -> Key {
        Key(hex::encode(self.0.finalize()))
    }
}

impl ScoreCache {
    /// Makes the directory: whether it can be written to shows before anything is measured.
    pub(super) fn open(dir: Option<PathBuf>) -> Result<Self, PipelineError> {
        if let Some(dir) = &dir {
            fs::create_dir_all(dir).map_err(|error| PipelineError::io("create", dir, error))?;
        }
        Ok(Self { dir })
    }

    fn path(&self, key: &Key) -> Option<PathBuf> {
        Some(self.dir.as_ref()?.join(format!("{}.json", key.0)))
    }

    /// Whether there are scores under this key.
    pub(super) fn contains(&self, key: &Key) -> bool {
        self.path(key).is_some_and(|path| path.is_file())
    }

    /// The scores under this key, if they are sound. A damaged entry counts as none and is measured again.
    pub(super) fn find<T: DeserializeOwned>(
        &self,
        key: &Key,
        is_sound: impl Fn(&T) -> bool,
    ) -> Option<T> {
        let bytes = fs::read(self.path(key)?).ok()?;
        serde_json::from_slice(&bytes).ok().filter(is_sound)
    }

    /// Keeps scores and returns them as a later [`find`](Self::find) reads them, to the last bit of every number.
    ///
    /// Readers see all of an entry or nothing.
    ///
    /// A disk that is full by now costs the entry and not the measurement.
    pub(super) fn keep<T: Serialize + DeserializeOwned>(
        &self,
        key: &Key,
        scores: &T,
    ) -> Result<T, PipelineError> {
        let written = |error: serde_json::Error| {
            PipelineError::io("write", Path::new("scores"), error.into())
        };
        let bytes = serde_json::to_vec(scores).map_err(written)?;
        if let (Some(dir), Some(path)) = (&self.dir, self.path(key)) {
            drop(write(dir, &path, &bytes));
        }
        serde_json::from_slice(&bytes).map_err(written)
    }
}

fn write(dir: &Path, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    forget_oldest(dir)
}

/// Removes the oldest entries beyond [`MAX_ENTRIES`]. Another process may do the same at the same time.
fn forget_oldest(dir: &Path) -> std::io::Result<()> {
    let mut entries: Vec<(SystemTime, PathBuf)> = fs::read_dir(dir)?
        .filter_map(|entry| {
            let entry = entry.ok()?;
            Some((entry.metadata().ok()?.modified().ok()?, entry.path()))
        })
        .collect();
    let excess = entries.len().saturating_sub(MAX_ENTRIES);
    entries.sort();
    for (_, path) in entries.into_iter().take(excess) {
        match fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(parts: &[&str]) -> Key {
        let with = |builder: KeyBuilder, part: &&str| builder.with(part.as_bytes());
        parts.iter().fold(KeyBuilder::new("model"), with).finish()
    }

    fn any<T>(_: &T) -> bool {
        true
    }

    #[test]
    fn scores_are_found_under_their_own_key_only() {
        let dir = tempfile::tempdir().unwrap();
        let cache = ScoreCache::open(Some(dir.path().join("scores"))).unwrap();
        cache.keep(&key(&["a", "bc"]), &vec![1.5, -0.25]).unwrap();
        assert_eq!(cache.find(&key(&["a", "bc"]), any), Some(vec![1.5, -0.25]));
        assert_eq!(cache.find::<Vec<f64>>(&key(&["ab", "c"]), any), None);
    }

    #[test]
    fn what_is_kept_is_found_as_it_was_given_back() {
        let dir = tempfile::tempdir().unwrap();
        let cache = ScoreCache::open(Some(dir.path().to_path_buf())).unwrap();
        let mut number = 1.0f64;
        let scores: Vec<f64> = (0..1000)
            .map(|_| {
                number = (number * 1.37 + 0.011).rem_euclid(97.3);
                -number
            })
            .collect();
        let given_back = cache.keep(&key(&["a"]), &scores).unwrap();
        assert_eq!(cache.find(&key(&["a"]), any), Some(given_back));
    }

    #[test]
    fn a_damaged_or_unsound_entry_counts_as_none() {
        let dir = tempfile::tempdir().unwrap();
        let cache = ScoreCache::open(Some(dir.path().to_path_buf())).unwrap();
        cache.keep(&key(&["a"]), &vec![1.0]).unwrap();
        assert_eq!(
            cache.find(&key(&["a"]), |found: &Vec<f64>| found.len() == 2),
            None
        );
        let entry = fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap();
        fs::write(entry.path(), b"[1, 2").unwrap();
        assert_eq!(cache.find::<Vec<f64>>(&key(&["a"]), any), None);
    }

    #[test]
    fn the_oldest_entries_make_room() {
        let dir = tempfile::tempdir().unwrap();
        for i in 0..=MAX_ENTRIES as u64 {
            let path = dir.path().join(format!("{i}.json"));
            let file = fs::File::create(path).unwrap();
            let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1 + i);
            file.set_modified(time).unwrap();
        }
        forget_oldest(dir.path()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), MAX_ENTRIES);
        assert!(!dir.path().join("0.json").try_exists().unwrap());
    }
}
