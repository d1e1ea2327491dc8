//! Artifacts in a folder of this machine.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use object_store::local::LocalFileSystem;
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt};
use tokio_util::sync::CancellationToken;

use super::error::{local_error, object_error};
use super::keys::{ATTEMPTS, JOBS, Root, UNKNOWN_SINCE};
use super::{ArtifactError, ByteStream, Stored, fetch};
use crate::domain::JobId;
use crate::domain::manifest::FileEntry;

/// A folder of artifacts.
#[derive(Debug)]
pub(super) struct Folder {
    root: PathBuf,
    store: LocalFileSystem,
    keys: Root,
}

impl Folder {
    /// Opens the folder, creates it where it is missing.
    pub(super) fn open(root: &Path) -> Result<Self, ArtifactError> {
        let error = |source| ArtifactError::Open {
            place: root.display().to_string(),
            source,
        };
        fs::create_dir_all(root).map_err(|source| error(source.into()))?;
        let store =
            LocalFileSystem::new_with_prefix(root).map_err(|source| error(source.into()))?;
        Ok(Self {
            // The processes that are given a directory need not share our working directory.
            root: std::path::absolute(root).map_err(|source| error(source.into()))?,
            store: store.with_fsync(true),
            keys: Root::default(),
        })
    }

    /// Takes a finished directory in as the attempt's artifact; the directory stays. What an interrupted call left in
    /// the store is replaced. A call that is dropped ends after the file it is at.
    pub(super) async fn publish(
        &self,
        job: JobId,
        attempt: u32,
        directory: &Path,
    ) -> Result<(), ArtifactError> {
        self.delete_attempt(job, attempt).await?;
        let target = self.directory(job, attempt);
        let source = directory.to_path_buf();
        let given_up = CancellationToken::new();
        let _guard = given_up.clone().drop_guard();
        let store = move || store_directory(&source, &target, &given_up);
        let stored = tokio::task::spawn_blocking(store).await;
        let stored = stored.unwrap_or_else(|panic| Err(io::Error::other(panic)));
        stored.map_err(|source| ArtifactError::Publish {
            path: directory.to_path_buf(),
            source,
        })
    }

    /// Where the files of a published attempt can be read.
    pub(super) fn directory(&self, job: JobId, attempt: u32) -> PathBuf {
        self.root.join(self.keys.dense(job, attempt).as_ref())
    }

    /// Length of a file; `None` when it is not there.
    pub(super) async fn size(
        &self,
        job: JobId,
        attempt: u32,
        name: &str,
    ) -> Result<Option<u64>, ArtifactError> {
        let key = self.keys.file(job, attempt, name);
        match self.store.head(&key).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(source) => Err(object_error("look up", &key)(source)),
        }
    }

    /// The bytes of a file within `range`.
    pub(super) async fn read(
        &self,
        job: JobId,
        attempt: u32,
        name: &str,
        range: Range<u64>,
    ) -> Result<ByteStream, ArtifactError> {
        if range.is_empty() {
            return Ok(futures::stream::empty().boxed());
        }
        let key = self.keys.file(job, attempt, name);
        let options = GetOptions {
            range: Some(GetRange::Bounded(range)),
            ..GetOptions::default()
        };
        let found = self
            .store
            .get_opts(&key, options)
            .await
            .map_err(object_error("read", &key))?;
        Ok(found.into_stream().map_err(io::Error::other).boxed())
    }

    /// Removes everything under an attempt's prefix.
    pub(super) async fn delete_attempt(
        &self,
        job: JobId,
        attempt: u32,
    ) -> Result<(), ArtifactError> {
        let prefix = self.keys.attempt(job, attempt);
        let keys = self
            .store
            .list(Some(&prefix))
            .map_ok(|meta| meta.location)
            .boxed();
        let deleted = self
            .store
            .delete_stream(keys)
            .try_for_each(|_| std::future::ready(Ok(())))
            .await;
        deleted.map_err(object_error("delete", &prefix))?;
        // A file system has folders besides the objects.
        let folder = self.root.join(prefix.as_ref());
        match tokio::fs::remove_dir_all(&folder).await {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(ArtifactError::Publish {
                    path: folder,
                    source,
                })
            }
            _ => Ok(()),
        }
    }

    /// Every job that has a folder.
    pub(super) async fn list(&self) -> Result<BTreeMap<JobId, Stored>, ArtifactError> {
        let jobs = self.root.join(JOBS);
        let mut found = BTreeMap::new();
        let listed = entries(&jobs).await.map_err(local_error("list", &jobs))?;
        for job in listed {
            let attempts = self.job(job).join(ATTEMPTS);
            let listed = entries(&attempts).await;
            let stored = Stored {
                attempts: listed
                    .map_err(local_error("list", &attempts))?
                    .into_iter()
                    .collect(),
                has_checkpoints: false,
                unknown_since: self.unknown_since(job).await?,
            };
            found.insert(job, stored);
        }
        Ok(found)
    }

    async fn unknown_since(&self, job: JobId) -> Result<Option<Timestamp>, ArtifactError> {
        let mark = self.job(job).join(UNKNOWN_SINCE);
        let error = local_error("look up", &mark);
        let modified = match tokio::fs::metadata(&mark).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            metadata => metadata.and_then(|metadata| metadata.modified()),
        };
        let since = modified.and_then(|time| Timestamp::try_from(time).map_err(io::Error::other));
        since.map(Some).map_err(error)
    }

    /// The mark's time is when it was made; one that is there stays.
    pub(super) async fn mark_unknown(&self, job: JobId) -> Result<(), ArtifactError> {
        let mark = self.job(job).join(UNKNOWN_SINCE);
        match tokio::fs::File::create_new(&mark).await {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            created => created.map(drop).map_err(local_error("create", &mark)),
        }
    }

    pub(super) async fn unmark_unknown(&self, job: JobId) -> Result<(), ArtifactError> {
        let mark = self.job(job).join(UNKNOWN_SINCE);
        match tokio::fs::remove_file(&mark).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.map_err(local_error("remove", &mark)),
        }
    }

    fn job(&self, job: JobId) -> PathBuf {
        self.root.join(self.keys.job(job).as_ref())
    }

    /// Copies a file out, checked on the way.
    pub(super) async fn fetch(
        &self,
        job: JobId,
        attempt: u32,
        file: &FileEntry,
        target: &Path,
    ) -> Result<(), ArtifactError> {
        let read = || self.read(job, attempt, &file.name, 0..file.size_bytes);
        fetch::fetch(read, file, target).await
    }

    /// Removes the folder of a job without attempts; for jobs that get no more of them.
    pub(super) async fn remove_empty(&self, job: JobId) {
        let folder = self.job(job);
        for path in [folder.join(ATTEMPTS), folder] {
            // One that is gone, or is not empty after all, is fine.
            drop(tokio::fs::remove_dir(path).await);
        }
    }
}

/// The names within a folder that are of this kind; none where it does not exist.
async fn entries<T: FromStr>(folder: &Path) -> io::Result<Vec<T>> {
    let mut entries = match tokio::fs::read_dir(folder).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    while let Some(entry) = entries.next_entry().await? {
        found.extend(
            entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok()),
        );
    }
    Ok(found)
}

/// Puts the files into a neighbour of the target, which is renamed when it is complete. The source stays as it is: until
/// the database has taken the artifact, it is what the next attempt goes on from.
fn store_directory(source: &Path, target: &Path, given_up: &CancellationToken) -> io::Result<()> {
    let parent = target.parent().unwrap_or(target);
    let partial = target.with_extension("partial");
    create_directories(parent)?;
    sync_tree(source, given_up)?;
    put_files(source, &partial, given_up)?;
    sync_tree(&partial, given_up)?;
    fs::rename(&partial, target)?;
    sync(parent)
}

/// Nobody waits any more, and the process may want to end.
fn unless(given_up: &CancellationToken) -> io::Result<()> {
    if given_up.is_cancelled() {
        return Err(io::ErrorKind::Interrupted.into());
    }
    Ok(())
}

/// As second names of the same files; across file systems as copies.
fn put_files(source: &Path, target: &Path, given_up: &CancellationToken) -> io::Result<()> {
    fs::create_dir_all(target)?;
    for entry in fs::read_dir(source)? {
        unless(given_up)?;
        let entry = entry?;
        let (from, to) = (entry.path(), target.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            put_files(&from, &to, given_up)?;
            continue;
        }
        match fs::hard_link(&from, &to) {
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                fs::copy(from, to).map(drop)?;
            }
            other => other?,
        }
    }
    Ok(())
}

/// The database will say that these files are there: they must survive a power cut first.
fn sync_tree(path: &Path, given_up: &CancellationToken) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        unless(given_up)?;
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_tree(&entry.path(), given_up)?;
        } else {
            sync(&entry.path())?;
        }
    }
    sync(path)
}

/// With all that are missing above it, so that a power cut takes none of them.
fn create_directories(path: &Path) -> io::Result<()> {
    let parent = path.parent().unwrap_or(path);
    match fs::create_dir(path) {
        Ok(()) => sync(parent),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound && parent != path => {
            create_directories(parent)?;
            create_directories(path)
        }
        Err(error) => Err(error),
    }
}

fn sync(path: &Path) -> io::Result<()> {
    fs::File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn job() -> JobId {
        "job_019abcde0123789a8bcdef0123456789".parse().unwrap()
    }

    async fn published(root: &Path) -> Folder {
        let artifacts = Folder::open(&root.join("artifacts")).unwrap();
        let finished = root.join("finished");
        fs::create_dir(&finished).unwrap();
        fs::write(finished.join("model.safetensors"), b"0123456789").unwrap();
        artifacts.publish(job(), 2, &finished).await.unwrap();
        artifacts
    }

    async fn read(artifacts: &Folder, range: Range<u64>) -> Vec<u8> {
        let stream = artifacts
            .read(job(), 2, "model.safetensors", range)
            .await
            .unwrap();
        stream.try_collect::<Vec<_>>().await.unwrap().concat()
    }

    #[tokio::test]
    async fn a_published_file_can_be_read_in_parts() {
        let root = tempfile::tempdir().unwrap();
        let artifacts = published(root.path()).await;
        assert_eq!(
            artifacts.size(job(), 2, "model.safetensors").await.unwrap(),
            Some(10)
        );
        assert_eq!(
            artifacts.size(job(), 1, "model.safetensors").await.unwrap(),
            None
        );
        assert_eq!(read(&artifacts, 0..10).await, b"0123456789");
        assert_eq!(read(&artifacts, 3..5).await, b"34");
        assert_eq!(read(&artifacts, 4..4).await, b"");
    }

    #[tokio::test]
    async fn an_attempt_is_listed_until_it_is_deleted() {
        let root = tempfile::tempdir().unwrap();
        let artifacts = published(root.path()).await;
        artifacts.remove_empty(job()).await;
        assert_eq!(
            artifacts.list().await.unwrap()[&job()].attempts,
            BTreeSet::from([2])
        );
        artifacts.delete_attempt(job(), 2).await.unwrap();
        artifacts.delete_attempt(job(), 2).await.unwrap();
        artifacts.remove_empty(job()).await;
        assert_eq!(artifacts.list().await.unwrap(), BTreeMap::new());
    }

    #[tokio::test]
    async fn publishing_again_replaces_what_an_interrupted_call_left() {
        let root = tempfile::tempdir().unwrap();
        let artifacts = published(root.path()).await;
        let finished = root.path().join("again");
        fs::create_dir(&finished).unwrap();
        fs::write(finished.join("config.json"), b"{}").unwrap();
        artifacts.publish(job(), 2, &finished).await.unwrap();
        assert_eq!(
            artifacts.size(job(), 2, "model.safetensors").await.unwrap(),
            None
        );
        assert_eq!(
            artifacts.size(job(), 2, "config.json").await.unwrap(),
            Some(2)
        );
    }

    #[tokio::test]
    async fn the_mark_of_an_unknown_job_keeps_its_time_until_it_is_taken_away() {
        let root = tempfile::tempdir().unwrap();
        let artifacts = published(root.path()).await;
        let since = async || artifacts.list().await.unwrap()[&job()].unknown_since;
        assert_eq!(since().await, None);
        artifacts.mark_unknown(job()).await.unwrap();
        let first = since().await;
        assert!(first.is_some());
        artifacts.mark_unknown(job()).await.unwrap();
        assert_eq!(since().await, first);
        artifacts.unmark_unknown(job()).await.unwrap();
        artifacts.unmark_unknown(job()).await.unwrap();
        assert_eq!(since().await, None);
    }

    #[test]
    fn a_stored_directory_equals_its_source_which_stays() {
        let root = tempfile::tempdir().unwrap();
        let (source, target) = (root.path().join("source"), root.path().join("to/stored"));
        fs::create_dir_all(source.join("nested")).unwrap();
        fs::write(source.join("nested/file"), b"x").unwrap();
        store_directory(&source, &target, &CancellationToken::new()).unwrap();
        for directory in [source, target] {
            assert_eq!(fs::read(directory.join("nested/file")).unwrap(), b"x");
        }
    }
}
