//! Artifacts in a folder of this machine.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use futures::future::BoxFuture;
use object_store::local::LocalFileSystem;
use tokio_util::sync::CancellationToken;

use super::error::{local_error, object_error};
use super::keys::{ATTEMPTS, JOBS, Root};
use super::objects::Objects;
use super::{ArtifactError, ArtifactFuture, ArtifactStore, Stored};
use crate::domain::JobId;
use crate::domain::report::manifest::FileEntry;

/// A folder of artifacts.
#[derive(Debug)]
pub(super) struct Folder {
    root: PathBuf,
    objects: Objects,
}

impl Folder {
    /// Opens the folder, creates it where it is missing.
    pub(super) fn open(root: &Path) -> Result<Self, ArtifactError> {
        let error = |source| ArtifactError::Open {
            place: root.display().to_string(),
            source,
        };
        let mut directory = DirBuilder::new();
        let created = directory.recursive(true).mode(0o700).create(root);
        created.map_err(|source| error(source.into()))?;
        let store =
            LocalFileSystem::new_with_prefix(root).map_err(|source| error(source.into()))?;
        let objects = Objects::new(
            Arc::new(store.with_fsync(true)),
            Root::default(),
            |operation, key, source| object_error(operation, key)(source),
        );
        Ok(Self {
            // The processes that are given a directory need not share our working directory.
            root: std::path::absolute(root).map_err(|source| error(source.into()))?,
            objects,
        })
    }

    fn job(&self, job: JobId) -> PathBuf {
        self.root.join(self.objects.keys.job(job).as_ref())
    }

    fn dense(&self, job: JobId, attempt: u32) -> PathBuf {
        self.root
            .join(self.objects.keys.dense(job, attempt).as_ref())
    }

    async fn stored(&self, job: JobId) -> Result<Stored, ArtifactError> {
        let attempts = self.job(job).join(ATTEMPTS);
        let listed = entries(&attempts).await;
        let listed: Vec<u32> = listed.map_err(local_error("list", &attempts))?;
        let mark = self.objects.keys.unknown_since(job);
        Ok(Stored {
            attempts: listed.into_iter().collect(),
            has_resume_state: false,
            unknown_since: self.objects.written_at(&mark).await?,
        })
    }
}

impl ArtifactStore for Folder {
    fn objects(&self) -> &Objects {
        &self.objects
    }

    /// A call that is dropped ends after the file it is at.
    fn publish<'a>(
        &'a self,
        job: JobId,
        attempt: u32,
        directory: &'a Path,
        _files: &'a [FileEntry],
    ) -> ArtifactFuture<'a, ()> {
        Box::pin(async move {
            self.delete_attempt(job, attempt).await?;
            let target = self.dense(job, attempt);
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
        })
    }

    fn directory(&self, job: JobId, attempt: u32) -> Option<PathBuf> {
        Some(self.dense(job, attempt))
    }

    fn delete_attempt(&self, job: JobId, attempt: u32) -> ArtifactFuture<'_, ()> {
        let folder = self
            .root
            .join(self.objects.keys.attempt(job, attempt).as_ref());
        Box::pin(async move {
            match tokio::fs::remove_dir_all(&folder).await {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                removed => removed.map_err(local_error("delete", &folder)),
            }
        })
    }

    /// Every job that has a folder.
    fn list<'a>(&'a self, skip: &'a HashSet<JobId>) -> ArtifactFuture<'a, BTreeMap<JobId, Stored>> {
        Box::pin(async move {
            let jobs = self.root.join(JOBS);
            let mut found = BTreeMap::new();
            let listed: Vec<JobId> = entries(&jobs).await.map_err(local_error("list", &jobs))?;
            for job in listed.into_iter().filter(|job| !skip.contains(job)) {
                found.insert(job, self.stored(job).await?);
            }
            Ok(found)
        })
    }

    fn remove_empty(&self, job: JobId) -> BoxFuture<'_, ()> {
        let folder = self.job(job);
        Box::pin(async move {
            for path in [folder.join(ATTEMPTS), folder] {
                // One that is gone, or is not empty after all, is fine.
                drop(tokio::fs::remove_dir(path).await);
            }
        })
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

/// Stores the files beside the target, then renames the directory when it is complete.
///
/// The source stays as it is: until the database has the artifact, the next attempt goes on from it.
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

/// Fails once the caller has given up: the process may be ending.
fn unless(given_up: &CancellationToken) -> io::Result<()> {
    if given_up.is_cancelled() {
        return Err(io::ErrorKind::Interrupted.into());
    }
    Ok(())
}

/// Links the files into another directory; copies them across file systems.
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

/// Makes a directory durable before the database names its files.
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

/// Creates a directory and its parents, durably.
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
    use std::ops::Range;

    use futures::TryStreamExt as _;

    use super::*;

    fn job() -> JobId {
        "job_019abcde0123789a8bcdef0123456789".parse().unwrap()
    }

    async fn published(root: &Path) -> Folder {
        let artifacts = Folder::open(&root.join("artifacts")).unwrap();
        let finished = root.join("finished");
        fs::create_dir(&finished).unwrap();
        fs::write(finished.join("model.safetensors"), b"0123456789").unwrap();
        artifacts.publish(job(), 2, &finished, &[]).await.unwrap();
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
            artifacts.list(&HashSet::new()).await.unwrap()[&job()].attempts,
            BTreeSet::from([2])
        );
        artifacts.delete_attempt(job(), 2).await.unwrap();
        artifacts.delete_attempt(job(), 2).await.unwrap();
        artifacts.remove_empty(job()).await;
        assert_eq!(
            artifacts.list(&HashSet::new()).await.unwrap(),
            BTreeMap::new()
        );
    }

    #[tokio::test]
    async fn publishing_again_replaces_what_an_interrupted_call_left() {
        let root = tempfile::tempdir().unwrap();
        let artifacts = published(root.path()).await;
        let finished = root.path().join("again");
        fs::create_dir(&finished).unwrap();
        fs::write(finished.join("config.json"), b"{}").unwrap();
        artifacts.publish(job(), 2, &finished, &[]).await.unwrap();
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
        let since = async || artifacts.list(&HashSet::new()).await.unwrap()[&job()].unknown_since;
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
