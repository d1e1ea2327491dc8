//! The artifact store: a façade over a folder or a bucket, and nothing else of ours sees `object_store`.
//!
//! An attempt's files, of whatever type its job is, lie under `jobs/<job>/attempts/<n>/dense/`. What lies there is visible to nobody until the
//! database names the attempt; what it will never name is garbage that the sweep removes.

mod bucket;
mod checkpoints;
mod error;
mod fetch;
mod folder;
mod keys;
mod place;
mod upload;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::BoxStream;
use jiff::Timestamp;

use crate::domain::JobId;
use crate::domain::manifest::FileEntry;
use bucket::Bucket;
pub use bucket::{BucketSettings, Credentials};
pub use checkpoints::{Checkpoints, StoredCheckpoint, StoredFile};
pub use error::{ArtifactError, Fault};
use folder::Folder;
pub use place::{ArtifactPlace, InvalidPlace};

/// The bytes of a stored file, as they come.
pub type ByteStream = BoxStream<'static, io::Result<Bytes>>;

/// What lies in the store of one job.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stored {
    /// Its attempts that have files, visible or not.
    pub attempts: BTreeSet<u32>,
    /// Whether there are checkpoints.
    pub has_checkpoints: bool,
    /// When it was noted that the database does not know the job.
    pub unknown_since: Option<Timestamp>,
}

/// A folder or a bucket of artifacts.
#[derive(Debug)]
pub struct Artifacts(Backend);

#[derive(Debug)]
enum Backend {
    Folder(Folder),
    Bucket(Arc<Bucket>),
}

impl Artifacts {
    /// Opens the place. A folder is created where it is missing; a bucket is asked whether it is there and lets us in.
    pub async fn open(
        place: &ArtifactPlace,
        settings: &BucketSettings,
    ) -> Result<Self, ArtifactError> {
        match place {
            ArtifactPlace::Folder(root) => Self::folder(root),
            ArtifactPlace::Bucket { name, prefix } => {
                let bucket = Bucket::new(name, prefix, settings)?;
                bucket.probe().await?;
                Ok(Self(Backend::Bucket(Arc::new(bucket))))
            }
        }
    }

    /// Opens a folder.
    pub fn folder(root: &Path) -> Result<Self, ArtifactError> {
        Ok(Self(Backend::Folder(Folder::open(root)?)))
    }

    /// Whether it can be used now; of a folder, the check of the directory it lies in says that.
    pub async fn probe(&self) -> Result<(), ArtifactError> {
        match &self.0 {
            Backend::Folder(_) => Ok(()),
            Backend::Bucket(bucket) => bucket.probe().await,
        }
    }

    /// Whether workers on other machines have the same one.
    pub fn is_shared(&self) -> bool {
        matches!(self.0, Backend::Bucket(_))
    }

    /// Where checkpoints can be stored for other machines; `None` where those would not see them.
    pub fn checkpoints(&self) -> Option<Checkpoints> {
        match &self.0 {
            Backend::Folder(_) => None,
            Backend::Bucket(bucket) => Some(Checkpoints(Arc::clone(bucket))),
        }
    }

    /// Stores a finished directory, whose files are these, as the attempt's artifact. What an interrupted call left
    /// there is replaced. The directory stays.
    pub async fn publish(
        &self,
        job: JobId,
        attempt: u32,
        directory: &Path,
        files: &[FileEntry],
    ) -> Result<(), ArtifactError> {
        match &self.0 {
            Backend::Folder(folder) => folder.publish(job, attempt, directory).await,
            Backend::Bucket(bucket) => bucket.publish(job, attempt, directory, files).await,
        }
    }

    /// Where the files of a published attempt can be read by a process that takes paths; `None` where they have to be
    /// fetched first. Nobody may write there.
    pub fn directory(&self, job: JobId, attempt: u32) -> Option<PathBuf> {
        match &self.0 {
            Backend::Folder(folder) => Some(folder.directory(job, attempt)),
            Backend::Bucket(_) => None,
        }
    }

    /// Copies one file of a published attempt to `target`, and checks that it is what was published. A target of this
    /// length is taken for an earlier call's: nothing but a complete file is ever given that name.
    pub async fn fetch(
        &self,
        job: JobId,
        attempt: u32,
        file: &FileEntry,
        target: &Path,
    ) -> Result<(), ArtifactError> {
        match &self.0 {
            Backend::Folder(folder) => folder.fetch(job, attempt, file, target).await,
            Backend::Bucket(bucket) => bucket.fetch(job, attempt, file, target).await,
        }
    }

    /// Length of a file; `None` when it is not there.
    pub async fn size(
        &self,
        job: JobId,
        attempt: u32,
        name: &str,
    ) -> Result<Option<u64>, ArtifactError> {
        match &self.0 {
            Backend::Folder(folder) => folder.size(job, attempt, name).await,
            Backend::Bucket(bucket) => bucket.size(job, attempt, name).await,
        }
    }

    /// The bytes of a file within `range`.
    pub async fn read(
        &self,
        job: JobId,
        attempt: u32,
        name: &str,
        range: Range<u64>,
    ) -> Result<ByteStream, ArtifactError> {
        match &self.0 {
            Backend::Folder(folder) => folder.read(job, attempt, name, range).await,
            Backend::Bucket(bucket) => bucket.read(job, attempt, name, range).await,
        }
    }

    /// A URL under which anybody can get the file for a few minutes; `None` where there is none to be had. It is as
    /// good as a password while it holds.
    pub async fn link(
        &self,
        job: JobId,
        attempt: u32,
        name: &str,
        disposition: &str,
    ) -> Result<Option<String>, ArtifactError> {
        match &self.0 {
            Backend::Folder(_) => Ok(None),
            Backend::Bucket(bucket) => bucket.link(job, attempt, name, disposition).await,
        }
    }

    /// Removes everything of an attempt.
    pub async fn delete_attempt(&self, job: JobId, attempt: u32) -> Result<(), ArtifactError> {
        match &self.0 {
            Backend::Folder(folder) => folder.delete_attempt(job, attempt).await,
            Backend::Bucket(bucket) => bucket.delete_attempt(job, attempt).await,
        }
    }

    /// Everything there is, job by job.
    pub async fn list(&self) -> Result<BTreeMap<JobId, Stored>, ArtifactError> {
        match &self.0 {
            Backend::Folder(folder) => folder.list().await,
            Backend::Bucket(bucket) => bucket.list().await,
        }
    }

    /// Notes that the database does not know this job; [`Self::list`] says later since when.
    pub async fn mark_unknown(&self, job: JobId) -> Result<(), ArtifactError> {
        match &self.0 {
            Backend::Folder(folder) => folder.mark_unknown(job).await,
            Backend::Bucket(bucket) => bucket.mark_unknown(job).await,
        }
    }

    /// Takes the note of [`Self::mark_unknown`] away.
    pub async fn unmark_unknown(&self, job: JobId) -> Result<(), ArtifactError> {
        match &self.0 {
            Backend::Folder(folder) => folder.unmark_unknown(job).await,
            Backend::Bucket(bucket) => bucket.unmark_unknown(job).await,
        }
    }

    /// Removes what is left of a job without attempts; for jobs that get no more of them.
    pub async fn remove_empty(&self, job: JobId) {
        match &self.0 {
            Backend::Folder(folder) => folder.remove_empty(job).await,
            // A bucket has no folders.
            Backend::Bucket(_) => {}
        }
    }
}
