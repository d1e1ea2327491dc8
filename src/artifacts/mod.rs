//! The artifact store: a folder or a bucket behind one trait. Nothing else of ours sees `object_store`.
//!
//! An attempt's files, of whatever type its job is, lie under `jobs/<job>/attempts/<n>/dense/`. What lies there is
//! visible to nobody until the database names the attempt; what it will never name is garbage that the sweep removes.

mod bucket;
mod bucket_client;
mod error;
mod fetch;
mod folder;
mod keys;
mod objects;
mod place;
mod resume_state;
mod upload;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use jiff::Timestamp;

use crate::domain::JobId;
use crate::domain::report::manifest::FileEntry;
use bucket::Bucket;
pub use bucket_client::{BucketSettings, Credentials};
pub use error::{ArtifactError, Fault};
use folder::Folder;
use objects::Objects;
pub use place::{ArtifactPlace, InvalidPlace};
pub use resume_state::{ResumeStates, StoredFile, StoredState};

/// The bytes of a stored file, as they arrive.
pub type ByteStream = BoxStream<'static, io::Result<Bytes>>;

/// The result of a method of [`ArtifactStore`]. Boxed, so that the trait works behind `dyn`.
pub type ArtifactFuture<'a, T> = BoxFuture<'a, Result<T, ArtifactError>>;

/// What the store holds of one job.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stored {
    /// Its attempts that have files, visible or not.
    pub attempts: BTreeSet<u32>,
    /// Whether there is resume state.
    pub has_resume_state: bool,
    /// When it was noted that the database does not know the job.
    pub unknown_since: Option<Timestamp>,
}

/// Opens the store at a place. A folder is created if it is missing; a bucket must be there and let us in.
pub async fn open(
    place: &ArtifactPlace,
    settings: &BucketSettings,
) -> Result<Arc<dyn ArtifactStore>, ArtifactError> {
    Ok(match place {
        ArtifactPlace::Folder(root) => open_folder(root)?,
        ArtifactPlace::Bucket { name, prefix } => {
            let bucket = Bucket::new(name, prefix, settings)?;
            bucket.probe().await?;
            Arc::new(bucket)
        }
    })
}

/// Opens a folder as a store.
pub fn open_folder(root: &Path) -> Result<Arc<dyn ArtifactStore>, ArtifactError> {
    Ok(Arc::new(Folder::open(root)?))
}

/// Stores the files of attempts.
pub trait ArtifactStore: fmt::Debug + Send + Sync {
    /// The stored files as objects under keys.
    fn objects(&self) -> &Objects;

    /// The id that the store shares with its database; `None` in a new store.
    fn store_id(&self) -> ArtifactFuture<'_, Option<String>> {
        let objects = self.objects();
        Box::pin(async move { objects.read_text(&objects.keys.store_id()).await })
    }

    /// Writes that id.
    fn set_store_id<'a>(&'a self, id: &'a str) -> ArtifactFuture<'a, ()> {
        let objects = self.objects();
        Box::pin(async move { objects.put(&objects.keys.store_id(), id.into()).await })
    }

    /// Whether workers on other machines use the same store.
    fn is_shared(&self) -> bool {
        false
    }

    /// Fails if the store cannot be used now. The directory of a folder is checked elsewhere.
    fn probe(&self) -> ArtifactFuture<'_, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Resume state for other machines; `None` where they could not read it.
    fn resume_states(&self) -> Option<ResumeStates> {
        None
    }

    /// Stores a finished directory, whose files are these, as the attempt's artifact. What an interrupted call left
    /// there is replaced. The directory stays.
    fn publish<'a>(
        &'a self,
        job: JobId,
        attempt: u32,
        directory: &'a Path,
        files: &'a [FileEntry],
    ) -> ArtifactFuture<'a, ()>;

    /// The directory of a published attempt's files; `None` where they have to be fetched. Nobody may write there.
    fn directory(&self, _job: JobId, _attempt: u32) -> Option<PathBuf> {
        None
    }

    /// A URL from which anybody can get the file for a few minutes, where the store gives one. It is as good as a
    /// password while it is valid.
    fn link<'a>(
        &'a self,
        _job: JobId,
        _attempt: u32,
        _name: &'a str,
        _disposition: &'a str,
    ) -> ArtifactFuture<'a, Option<String>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    /// Removes everything of an attempt.
    fn delete_attempt(&self, job: JobId, attempt: u32) -> ArtifactFuture<'_, ()>;

    /// Everything in the store but that of the jobs to skip, job by job.
    fn list<'a>(&'a self, skip: &'a HashSet<JobId>) -> ArtifactFuture<'a, BTreeMap<JobId, Stored>>;

    /// Removes what is left of a job without attempts; for jobs that get no more of them.
    fn remove_empty(&self, _job: JobId) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    /// Length of a file; `None` when it is not there.
    fn size<'a>(
        &'a self,
        job: JobId,
        attempt: u32,
        name: &'a str,
    ) -> ArtifactFuture<'a, Option<u64>> {
        let objects = self.objects();
        Box::pin(async move { objects.size(&objects.keys.file(job, attempt, name)).await })
    }

    /// The bytes of a file within `range`.
    fn read<'a>(
        &'a self,
        job: JobId,
        attempt: u32,
        name: &'a str,
        range: Range<u64>,
    ) -> ArtifactFuture<'a, ByteStream> {
        let objects = self.objects();
        Box::pin(async move {
            let key = objects.keys.file(job, attempt, name);
            objects.read(&key, range).await
        })
    }

    /// Copies one file of a published attempt to `target`, and checks that it is what was published. A target of this
    /// length was left by an earlier call: only a complete file ever gets that name.
    fn fetch<'a>(
        &'a self,
        job: JobId,
        attempt: u32,
        file: &'a FileEntry,
        target: &'a Path,
    ) -> ArtifactFuture<'a, ()> {
        let objects = self.objects();
        Box::pin(async move {
            let key = objects.keys.file(job, attempt, &file.name);
            objects.fetch(&key, file, target).await
        })
    }

    /// Notes that the database does not know this job; [`Self::list`] says later since when.
    fn mark_unknown(&self, job: JobId) -> ArtifactFuture<'_, ()> {
        let objects = self.objects();
        Box::pin(async move { objects.put_once(&objects.keys.unknown_since(job)).await })
    }

    /// Takes the note of [`Self::mark_unknown`] away.
    fn unmark_unknown(&self, job: JobId) -> ArtifactFuture<'_, ()> {
        let objects = self.objects();
        Box::pin(async move { objects.delete(&objects.keys.unknown_since(job)).await })
    }
}
