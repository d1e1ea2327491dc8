//! Artifacts in a bucket of a store that speaks S3.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use object_store::ObjectStore as _;
use object_store::aws::AmazonS3;
use object_store::path::Path as Key;
use object_store::signer::{Method, SignedUrlOptions, Signer as _};

use super::bucket_client::{BucketSettings, client};
use super::error::{bucket_error, local_error};
use super::keys::{ATTEMPTS, RESUME_STATE, Root, UNKNOWN_SINCE};
use super::objects::{Objects, written_at};
use super::resume_state::ResumeStates;
use super::{ArtifactError, ArtifactFuture, ArtifactStore, Fault, Stored, fetch, upload};
use crate::domain::JobId;
use crate::domain::report::manifest::FileEntry;

/// How long a probe waits for an answer.
const PROBE: Duration = Duration::from_secs(10);

/// How long a link is valid.
const LINK: Duration = Duration::from_mins(5);

/// A prefix in a bucket. Cheap to clone.
#[derive(Clone)]
pub(super) struct Bucket {
    client: AmazonS3,
    objects: Objects,
    /// What an operator calls it.
    name: String,
    redirect: bool,
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bucket({})", self.name)
    }
}

impl Bucket {
    pub(super) fn new(
        name: &str,
        prefix: &str,
        settings: &BucketSettings,
    ) -> Result<Self, ArtifactError> {
        let place = format!("s3://{name}/{prefix}");
        let error = |source: Box<dyn std::error::Error + Send + Sync>| ArtifactError::Open {
            place: place.clone(),
            source,
        };
        let prefix = Key::parse(prefix).map_err(|source| error(source.into()))?;
        let client = client(name, settings).map_err(|source| error(Fault::new(&source).into()))?;
        let objects = Objects::new(
            Arc::new(client.clone()),
            Root::new(prefix),
            |operation, key, source| bucket_error(operation, key)(source),
        );
        Ok(Self {
            client,
            objects,
            name: place,
            redirect: settings.redirect,
        })
    }

    /// Writes a file of this machine to `folder/name` once `check` agrees to what was read.
    pub(super) async fn upload(
        &self,
        folder: &Key,
        name: &str,
        file: File,
        check: impl FnOnce(&FileEntry) -> Result<(), ArtifactError>,
    ) -> Result<FileEntry, ArtifactError> {
        upload::upload(&self.client, folder, name, file, check).await
    }

    /// Removes the `doomed` objects below a key, and aborts the uploads that their notes name.
    pub(super) async fn delete_below(
        &self,
        prefix: &Key,
        doomed: impl Fn(&Key) -> bool,
    ) -> Result<(), ArtifactError> {
        let mut keys = self.objects.keys_below(prefix).await?;
        keys.retain(doomed);
        for key in &keys {
            upload::abort_noted(&self.client, key).await?;
        }
        let keys = futures::stream::iter(keys.into_iter().map(Ok)).boxed();
        let deleted = self.client.delete_stream(keys);
        deleted
            .try_for_each(|_| std::future::ready(Ok(())))
            .await
            .map_err(bucket_error("delete", prefix))
    }

    async fn publish_files(
        &self,
        job: JobId,
        attempt: u32,
        directory: &Path,
        files: &[FileEntry],
    ) -> Result<(), ArtifactError> {
        let folder = self.objects.keys.dense(job, attempt);
        for file in files {
            let path = directory.join(&file.name);
            let opened = File::open(&path).map_err(local_error("open", &path))?;
            let check = |read: &FileEntry| fetch::check(file, read.size_bytes, &read.sha256);
            self.upload(&folder, &file.name, opened, check).await?;
            let stored = self.size(job, attempt, &file.name).await?;
            if stored != Some(file.size_bytes) {
                return Err(ArtifactError::Damaged {
                    file: file.name.clone(),
                    found: stored.map_or_else(|| "gone".to_owned(), |n| format!("{n} bytes")),
                    expected: format!("{} bytes", file.size_bytes),
                });
            }
        }
        Ok(())
    }
}

impl ArtifactStore for Bucket {
    fn objects(&self) -> &Objects {
        &self.objects
    }

    fn is_shared(&self) -> bool {
        true
    }

    /// A listing that finds nothing: it needs the bucket, and the right to look into it.
    fn probe(&self) -> ArtifactFuture<'_, ()> {
        Box::pin(async move {
            let key = self.objects.keys.jobs().join("none");
            let look = async { self.client.list(Some(&key)).next().await.transpose() };
            let error = |source| ArtifactError::Open {
                place: self.name.clone(),
                source,
            };
            match tokio::time::timeout(PROBE, look).await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(source)) => Err(error(Fault::new(&source).into())),
                Err(elapsed) => Err(error(elapsed.into())),
            }
        })
    }

    fn resume_states(&self) -> Option<ResumeStates> {
        Some(ResumeStates(self.clone()))
    }

    fn publish<'a>(
        &'a self,
        job: JobId,
        attempt: u32,
        directory: &'a Path,
        files: &'a [FileEntry],
    ) -> ArtifactFuture<'a, ()> {
        Box::pin(async move {
            self.delete_attempt(job, attempt).await?;
            self.publish_files(job, attempt, directory, files).await
        })
    }

    fn link<'a>(
        &'a self,
        job: JobId,
        attempt: u32,
        name: &'a str,
        disposition: &'a str,
    ) -> ArtifactFuture<'a, Option<String>> {
        Box::pin(async move {
            if !self.redirect {
                return Ok(None);
            }
            let key = self.objects.keys.file(job, attempt, name);
            let query = [("response-content-disposition", disposition)];
            let options = SignedUrlOptions::default().with_query(query);
            let signed = self
                .client
                .signed_url_opts(Method::GET, &key, LINK, &options);
            let url = signed.await.map_err(bucket_error("link to", &key))?;
            Ok(Some(url.into()))
        })
    }

    fn delete_attempt(&self, job: JobId, attempt: u32) -> ArtifactFuture<'_, ()> {
        Box::pin(async move {
            let folder = self.objects.keys.attempt(job, attempt);
            self.delete_below(&folder, |_| true).await
        })
    }

    fn list<'a>(&'a self, skip: &'a HashSet<JobId>) -> ArtifactFuture<'a, BTreeMap<JobId, Stored>> {
        Box::pin(async move {
            let keys = &self.objects.keys;
            let jobs = keys.jobs();
            let mut found: BTreeMap<JobId, Stored> = BTreeMap::new();
            let mut listed = self.client.list(Some(&jobs));
            let error = || bucket_error("list", &jobs);
            while let Some(meta) = listed.try_next().await.map_err(error())? {
                let parsed = keys.parse(&meta.location);
                let Some((job, rest)) = parsed.filter(|(job, _)| !skip.contains(job)) else {
                    continue;
                };
                let stored = found.entry(job).or_default();
                match rest.iter().map(String::as_str).collect::<Vec<_>>()[..] {
                    [ATTEMPTS, attempt, ..] => stored.attempts.extend(attempt.parse::<u32>()),
                    [RESUME_STATE, ..] => stored.has_resume_state = true,
                    [UNKNOWN_SINCE] => stored.unknown_since = written_at(&meta),
                    _ => {}
                }
            }
            Ok(found)
        })
    }
}
