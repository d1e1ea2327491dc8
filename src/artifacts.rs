//! The artifact store: a façade over `object_store`, and nothing else of ours sees that.
//!
//! An attempt's files, of whatever type its job is, lie under `jobs/<job>/attempts/<n>/dense/`. What lies there is visible to nobody until the
//! database names the attempt; what it will never name is garbage that the sweep removes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt};

use crate::domain::JobId;

/// The artifact store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// The folder cannot be used.
    #[error("cannot open the artifact folder {}", path.display())]
    Open {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A finished directory could not be taken in.
    #[error("cannot put {} into the artifact store", path.display())]
    Publish {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A folder could not be listed.
    #[error("cannot list {}", path.display())]
    List {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A stored file could not be read, listed or deleted.
    #[error("cannot {operation} {key}")]
    Object {
        /// What was tried.
        operation: &'static str,
        /// On what.
        key: String,
        /// Why.
        #[source]
        source: object_store::Error,
    },
}

/// The bytes of a stored file, as they come.
pub type ByteStream = BoxStream<'static, io::Result<Bytes>>;

/// A folder of artifacts.
#[derive(Debug)]
pub struct Artifacts {
    root: PathBuf,
    store: LocalFileSystem,
}

impl Artifacts {
    /// Opens the folder, creates it where it is missing.
    pub fn open(root: &Path) -> Result<Self, ArtifactError> {
        let error = |source| ArtifactError::Open {
            path: root.to_path_buf(),
            source,
        };
        fs::create_dir_all(root).map_err(|source| error(source.into()))?;
        let store =
            LocalFileSystem::new_with_prefix(root).map_err(|source| error(source.into()))?;
        Ok(Self {
            // The processes that are given a directory need not share our working directory.
            root: std::path::absolute(root).map_err(|source| error(source.into()))?,
            store: store.with_fsync(true),
        })
    }

    /// Takes a finished directory in as the attempt's artifact; the directory stays. What an interrupted call left in
    /// the store is replaced.
    pub async fn publish(
        &self,
        job: JobId,
        attempt: u32,
        directory: &Path,
    ) -> Result<(), ArtifactError> {
        self.delete_attempt(job, attempt).await?;
        let target = self.directory(job, attempt);
        let source = directory.to_path_buf();
        let stored = tokio::task::spawn_blocking(move || store_directory(&source, &target)).await;
        let stored = stored.unwrap_or_else(|panic| Err(io::Error::other(panic)));
        stored.map_err(|source| ArtifactError::Publish {
            path: directory.to_path_buf(),
            source,
        })
    }

    /// Where the files of a published attempt can be read, for a process that takes paths. Nobody may write there.
    pub fn directory(&self, job: JobId, attempt: u32) -> PathBuf {
        self.root.join(dense_key(job, attempt).as_ref())
    }

    /// Length of a file; `None` when it is not there.
    pub async fn size(
        &self,
        job: JobId,
        attempt: u32,
        name: &str,
    ) -> Result<Option<u64>, ArtifactError> {
        let key = file_key(job, attempt, name);
        match self.store.head(&key).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(source) => Err(object_error("look up", &key)(source)),
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
        if range.is_empty() {
            return Ok(futures::stream::empty().boxed());
        }
        let key = file_key(job, attempt, name);
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
    pub async fn delete_attempt(&self, job: JobId, attempt: u32) -> Result<(), ArtifactError> {
        let prefix = attempt_key(job, attempt);
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

    /// Every job that has a folder, with the attempts in it, visible or not.
    pub async fn list_attempts(&self) -> Result<BTreeMap<JobId, BTreeSet<u32>>, ArtifactError> {
        let jobs = self.root.join("jobs");
        let error = |source| ArtifactError::List {
            path: jobs.clone(),
            source,
        };
        let mut found = BTreeMap::new();
        for job in entries(&jobs).await.map_err(error)? {
            let attempts = entries(&self.folder(job).join("attempts")).await;
            found.insert(job, attempts.map_err(error)?.into_iter().collect());
        }
        Ok(found)
    }

    /// Where everything of a job lies.
    pub fn folder(&self, job: JobId) -> PathBuf {
        self.root.join("jobs").join(job.to_string())
    }

    /// Removes the folder of a job without attempts; for jobs that get no more of them.
    pub async fn remove_empty(&self, job: JobId) {
        let folder = self.folder(job);
        for path in [folder.join("attempts"), folder] {
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

fn attempt_key(job: JobId, attempt: u32) -> Key {
    Key::from_iter([
        "jobs".to_owned(),
        job.to_string(),
        "attempts".to_owned(),
        attempt.to_string(),
    ])
}

fn dense_key(job: JobId, attempt: u32) -> Key {
    attempt_key(job, attempt).join("dense")
}

fn file_key(job: JobId, attempt: u32, name: &str) -> Key {
    dense_key(job, attempt).join(name)
}

fn object_error(
    operation: &'static str,
    key: &Key,
) -> impl FnOnce(object_store::Error) -> ArtifactError {
    move |source| ArtifactError::Object {
        operation,
        key: key.to_string(),
        source,
    }
}

/// Puts the files into a neighbour of the target, which is renamed when it is complete. The source stays as it is: until
/// the database has taken the artifact, it is what the next attempt goes on from.
fn store_directory(source: &Path, target: &Path) -> io::Result<()> {
    let parent = target.parent().unwrap_or(target);
    let partial = target.with_extension("partial");
    fs::create_dir_all(parent)?;
    sync_tree(source)?;
    put_files(source, &partial)?;
    sync_tree(&partial)?;
    fs::rename(&partial, target)?;
    sync(parent)
}

/// As second names of the same files; across file systems as copies.
fn put_files(source: &Path, target: &Path) -> io::Result<()> {
    fs::create_dir_all(target)?;
    for entry in fs::read_dir(source)? {
        let entry = entry?;
        let (from, to) = (entry.path(), target.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            put_files(&from, &to)?;
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
fn sync_tree(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_tree(&entry.path())?;
        } else {
            sync(&entry.path())?;
        }
    }
    sync(path)
}

fn sync(path: &Path) -> io::Result<()> {
    fs::File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job() -> JobId {
        "job_019abcde0123789a8bcdef0123456789".parse().unwrap()
    }

    async fn published(root: &Path) -> Artifacts {
        let artifacts = Artifacts::open(&root.join("artifacts")).unwrap();
        let finished = root.join("finished");
        fs::create_dir(&finished).unwrap();
        fs::write(finished.join("model.safetensors"), b"0123456789").unwrap();
        artifacts.publish(job(), 2, &finished).await.unwrap();
        artifacts
    }

    async fn read(artifacts: &Artifacts, range: Range<u64>) -> Vec<u8> {
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
            artifacts.list_attempts().await.unwrap(),
            BTreeMap::from([(job(), BTreeSet::from([2]))])
        );
        artifacts.delete_attempt(job(), 2).await.unwrap();
        artifacts.delete_attempt(job(), 2).await.unwrap();
        artifacts.remove_empty(job()).await;
        assert_eq!(artifacts.list_attempts().await.unwrap(), BTreeMap::new());
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

    #[test]
    fn a_stored_directory_equals_its_source_which_stays() {
        let root = tempfile::tempdir().unwrap();
        let (source, target) = (root.path().join("source"), root.path().join("to/stored"));
        fs::create_dir_all(source.join("nested")).unwrap();
        fs::write(source.join("nested/file"), b"x").unwrap();
        store_directory(&source, &target).unwrap();
        for directory in [source, target] {
            assert_eq!(fs::read(directory.join("nested/file")).unwrap(), b"x");
        }
    }
}
