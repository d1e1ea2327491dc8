//! Resume state of running jobs in a bucket, so that another machine can go on.
//!
//! Each attempt writes below a prefix of its own, `jobs/<job>/checkpoints/<attempt>/`: its files once, then the index that
//! names them, with digests. The index may name files of earlier attempts. So an attempt that only seemed dead spoils
//! nothing: what it still writes is its own, and what others read of it is checked.

use std::fs::File;
use std::path::Path;

use bytes::Bytes;
use object_store::ObjectStoreExt as _;
use object_store::path::Path as Key;
use serde::{Deserialize, Serialize};

use super::bucket::Bucket;
use super::keys::INDEX;
use super::{ArtifactError, ArtifactStore as _, fetch};
use crate::domain::JobId;
use crate::domain::attempt::ResumeFile;
use crate::domain::report::manifest::FileEntry;

/// Changes when the meaning of an index changes.
const FORMAT: u32 = 1;

/// The resume state of all jobs in a bucket. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ResumeStates(pub(super) Bucket);

/// The state that one attempt has stored last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredState {
    format: u32,
    /// The block that comes next.
    pub next_block: usize,
    /// Names the files, for the process that goes on.
    pub state: String,
    /// The files.
    pub files: Vec<StoredFile>,
}

/// One file of a state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredFile {
    /// The attempt that stored it.
    pub attempt: u32,
    /// Its name, length and digest.
    #[serde(flatten)]
    pub entry: FileEntry,
}

impl StoredState {
    /// A state of these files.
    pub fn new(next_block: usize, state: String, files: Vec<StoredFile>) -> Self {
        Self {
            format: FORMAT,
            next_block,
            state,
            files,
        }
    }

    /// From bytes that anybody may have written: only names that stay in their directory.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let parsed: Self = serde_json::from_slice(bytes).ok()?;
        let is_name = |name: &str| {
            let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
            !name.starts_with('.') && !name.is_empty() && name.bytes().all(is_plain)
        };
        let has_names = parsed.files.iter().all(|file| is_name(&file.entry.name));
        (parsed.format == FORMAT && has_names).then_some(parsed)
    }
}

impl StoredFile {
    /// Whether it is this one.
    pub fn is(&self, file: &ResumeFile) -> bool {
        self.entry.name == file.name && self.entry.sha256 == file.sha256
    }
}

impl ResumeStates {
    /// What the attempts have stored, the furthest first. What cannot be read is left out.
    pub async fn list(&self, job: JobId) -> Result<Vec<StoredState>, ArtifactError> {
        let mut found = Vec::new();
        for (attempt, bytes) in self.indexes(job).await? {
            match StoredState::parse(&bytes) {
                Some(state) => found.push((state.next_block, attempt, state)),
                None => {
                    tracing::warn!(job.id = %job, job.attempt = attempt, "a resume state in the bucket cannot be read");
                }
            }
        }
        found.sort_by_key(|(next_block, attempt, _)| std::cmp::Reverse((*next_block, *attempt)));
        Ok(found.into_iter().map(|(_, _, found)| found).collect())
    }

    /// The index of each attempt that has one.
    async fn indexes(&self, job: JobId) -> Result<Vec<(u32, Bytes)>, ArtifactError> {
        let objects = self.0.objects();
        let folder = objects.keys.resume_state(job);
        let error = || objects.failed("read", &folder);
        let mut found = Vec::new();
        for key in objects.keys_below(&folder).await? {
            let parts: Vec<_> = key.parts().collect();
            if let [.., attempt, name] = &parts[..]
                && let Ok(attempt) = attempt.as_ref().parse()
                && name.as_ref() == INDEX
            {
                let index = objects.store.get(&key).await.map_err(error())?;
                found.push((attempt, index.bytes().await.map_err(error())?));
            }
        }
        Ok(found)
    }

    /// Copies a file to `target`, and checks that it is what was stored.
    pub async fn fetch(
        &self,
        job: JobId,
        file: &StoredFile,
        target: &Path,
    ) -> Result<(), ArtifactError> {
        let key = self.key(job, file);
        self.0.objects().fetch(&key, &file.entry, target).await
    }

    /// Stores a file that was opened just now, and checks that it is the one that was announced.
    pub async fn write_file(
        &self,
        job: JobId,
        attempt: u32,
        announced: &ResumeFile,
        file: File,
    ) -> Result<StoredFile, ArtifactError> {
        let folder = self.0.objects().keys.resume_files(job, attempt);
        let name = &announced.name;
        let entry = self.0.upload(&folder, name, file, |entry| {
            let announced = FileEntry {
                sha256: announced.sha256.clone(),
                ..entry.clone()
            };
            fetch::check(&announced, entry.size_bytes, &entry.sha256)
        });
        Ok(StoredFile {
            attempt,
            entry: entry.await?,
        })
    }

    /// Makes this the attempt's state. Its files must be there.
    pub async fn write(
        &self,
        job: JobId,
        attempt: u32,
        state: &StoredState,
    ) -> Result<(), ArtifactError> {
        let objects = self.0.objects();
        let key = objects.keys.resume_index(job, attempt);
        let bytes = serde_json::to_vec(state).map_err(|error| ArtifactError::Local {
            operation: "write",
            path: key.as_ref().into(),
            source: error.into(),
        })?;
        objects.put(&key, bytes).await
    }

    /// Removes a file that no state names any more.
    pub async fn delete_file(&self, job: JobId, file: &StoredFile) -> Result<(), ArtifactError> {
        self.0.objects().delete(&self.key(job, file)).await
    }

    /// Removes the states of a job's attempts up to this one.
    pub async fn delete_until(&self, job: JobId, attempt: u32) -> Result<(), ArtifactError> {
        let folder = self.0.objects().keys.resume_state(job);
        let is_later = |key: &Key| {
            let of = key.prefix_match(&folder).and_then(|mut parts| parts.next());
            let of = of.and_then(|of| of.as_ref().parse().ok());
            of.is_some_and(|of: u32| of > attempt)
        };
        self.0.delete_below(&folder, |key| !is_later(key)).await
    }

    fn key(&self, job: JobId, file: &StoredFile) -> Key {
        let folder = self.0.objects().keys.resume_files(job, file.attempt);
        folder.join(file.entry.name.as_str())
    }
}
