//! Artifacts in a bucket of a store that speaks S3.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path as Key;
use object_store::signer::{Method, SignedUrlOptions, Signer as _};
use object_store::{
    BackoffConfig, ClientOptions, GetOptions, GetRange, ObjectStore as _, ObjectStoreExt as _,
    RetryConfig,
};

use super::error::{bucket_error, local_error};
use super::keys::{ATTEMPTS, CHECKPOINTS, INDEX, Root, UNKNOWN_SINCE};
use super::{ArtifactError, ByteStream, Fault, Stored, fetch, upload};
use crate::domain::JobId;
use crate::domain::manifest::FileEntry;

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(10);

/// How long a request may take to be answered, its body of one part included, and how long an answer may pause. There is
/// no limit on the whole: a file of gigabytes takes what it takes.
const IDLE: Duration = Duration::from_mins(1);

/// How long the answer to "are you there" is waited for.
const PROBE: Duration = Duration::from_secs(10);

/// A request that failed is repeated for some seconds, up to half a minute. Who can wait for longer does so itself.
const RETRIES: usize = 8;
const RETRY_FOR: Duration = Duration::from_mins(2);

/// How long a link holds.
const LINK: Duration = Duration::from_mins(5);

/// How a bucket is reached.
#[derive(Debug, Clone, Default)]
pub struct BucketSettings {
    /// The server's URL; `None` = Amazon's of the region. Only with `http://` here the connection is not encrypted.
    pub endpoint: Option<String>,
    /// The region that requests are signed for.
    pub region: String,
    /// Whether the bucket is named in the path instead of the host name.
    pub path_style: bool,
    /// What requests are signed with; `None` = what the machine is given by its cloud.
    pub credentials: Option<Credentials>,
    /// Whether downloads are sent to the bucket.
    pub redirect: bool,
}

/// A pair of keys, never printed.
#[derive(Clone)]
pub struct Credentials {
    /// Names the key.
    pub access_key_id: String,
    /// The key.
    pub secret_access_key: String,
    /// What temporary keys come with.
    pub session_token: Option<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials")
    }
}

/// A prefix in a bucket.
pub(super) struct Bucket {
    store: AmazonS3,
    /// What an operator calls it.
    name: String,
    keys: Root,
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
        let is_plain = |endpoint: &String| endpoint.starts_with("http://");
        let options = ClientOptions::new()
            .with_allow_http(settings.endpoint.as_ref().is_some_and(is_plain))
            .with_connect_timeout(CONNECT)
            .with_timeout_disabled()
            .with_read_timeout(IDLE);
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(name)
            .with_region(&settings.region)
            .with_virtual_hosted_style_request(!settings.path_style)
            .with_client_options(options)
            .with_retry(RetryConfig {
                backoff: BackoffConfig {
                    init_backoff: Duration::from_millis(100),
                    max_backoff: Duration::from_secs(10),
                    base: 2.0,
                },
                max_retries: RETRIES,
                retry_timeout: RETRY_FOR,
            });
        if let Some(endpoint) = &settings.endpoint {
            builder = builder.with_endpoint(endpoint_of(endpoint, name, settings.path_style));
        }
        if let Some(credentials) = &settings.credentials {
            builder = builder
                .with_access_key_id(&credentials.access_key_id)
                .with_secret_access_key(&credentials.secret_access_key);
            if let Some(token) = &credentials.session_token {
                builder = builder.with_token(token);
            }
        }
        let store = builder
            .build()
            .map_err(|source| error(Fault::new(&source).into()))?;
        Ok(Self {
            store,
            name: place.clone(),
            keys: Root::new(prefix),
            redirect: settings.redirect,
        })
    }

    /// A listing that finds nothing: it needs the bucket, and the right to look into it.
    pub(super) async fn probe(&self) -> Result<(), ArtifactError> {
        let key = self.keys.jobs().join("none");
        let look = async { self.store.list(Some(&key)).next().await.transpose() };
        let error = |source| ArtifactError::Open {
            place: self.name.clone(),
            source,
        };
        match tokio::time::timeout(PROBE, look).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(source)) => Err(error(Fault::new(&source).into())),
            Err(elapsed) => Err(error(elapsed.into())),
        }
    }

    pub(super) async fn publish(
        &self,
        job: JobId,
        attempt: u32,
        directory: &Path,
        files: &[FileEntry],
    ) -> Result<(), ArtifactError> {
        self.delete_attempt(job, attempt).await?;
        for file in files {
            let path = directory.join(&file.name);
            let opened = File::open(&path).map_err(local_error("open", &path))?;
            let folder = self.keys.dense(job, attempt);
            let check = |read: &FileEntry| fetch::check(file, read.size_bytes, &read.sha256);
            upload::upload(&self.store, &folder, &file.name, opened, check).await?;
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
            Err(source) => Err(bucket_error("look up", &key)(source)),
        }
    }

    pub(super) async fn read(
        &self,
        job: JobId,
        attempt: u32,
        name: &str,
        range: Range<u64>,
    ) -> Result<ByteStream, ArtifactError> {
        self.read_key(self.keys.file(job, attempt, name), range)
            .await
    }

    pub(super) async fn read_key(
        &self,
        key: Key,
        range: Range<u64>,
    ) -> Result<ByteStream, ArtifactError> {
        if range.is_empty() {
            return Ok(futures::stream::empty().boxed());
        }
        let options = GetOptions {
            range: Some(GetRange::Bounded(range)),
            ..GetOptions::default()
        };
        let found = self.store.get_opts(&key, options).await;
        let found = found.map_err(bucket_error("read", &key))?;
        let bytes = found.into_stream();
        Ok(bytes
            .map_err(|error| std::io::Error::other(Fault::new(&error)))
            .boxed())
    }

    pub(super) async fn link(
        &self,
        job: JobId,
        attempt: u32,
        name: &str,
        disposition: &str,
    ) -> Result<Option<String>, ArtifactError> {
        if !self.redirect {
            return Ok(None);
        }
        let key = self.keys.file(job, attempt, name);
        let options =
            SignedUrlOptions::default().with_query([("response-content-disposition", disposition)]);
        let signed = self
            .store
            .signed_url_opts(Method::GET, &key, LINK, &options);
        let url = signed.await.map_err(bucket_error("link to", &key))?;
        Ok(Some(url.into()))
    }

    pub(super) async fn delete_attempt(
        &self,
        job: JobId,
        attempt: u32,
    ) -> Result<(), ArtifactError> {
        let folder = self.keys.attempt(job, attempt);
        self.delete_below(&folder, |_| true).await
    }

    pub(super) fn keys(&self) -> &Root {
        &self.keys
    }

    /// Writes a file of this machine to `folder/name` once `check` agrees to what was read.
    pub(super) async fn upload(
        &self,
        folder: &Key,
        name: &str,
        file: File,
        check: impl FnOnce(&FileEntry) -> Result<(), ArtifactError>,
    ) -> Result<FileEntry, ArtifactError> {
        upload::upload(&self.store, folder, name, file, check).await
    }

    /// Writes a small object.
    pub(super) async fn put(&self, key: &Key, bytes: Vec<u8>) -> Result<(), ArtifactError> {
        let put = self.store.put(key, bytes.into()).await;
        put.map(drop).map_err(bucket_error("write", key))
    }

    /// Removes an object, if it is there.
    pub(super) async fn delete(&self, key: &Key) -> Result<(), ArtifactError> {
        match self.store.delete(key).await {
            Err(object_store::Error::NotFound { .. }) => Ok(()),
            deleted => deleted.map_err(bucket_error("delete", key)),
        }
    }

    /// The index of each attempt that has one.
    pub(super) async fn checkpoint_indexes(
        &self,
        job: JobId,
    ) -> Result<Vec<(u32, Bytes)>, ArtifactError> {
        let folder = self.keys.checkpoints(job);
        let error = || bucket_error("read", &folder);
        let listed = self.store.list(Some(&folder)).map_ok(|meta| meta.location);
        let listed: Vec<Key> = listed.try_collect().await.map_err(error())?;
        let mut found = Vec::new();
        for key in listed {
            let parts: Vec<_> = key.parts().collect();
            let [.., attempt, name] = &parts[..] else {
                continue;
            };
            let Ok(attempt) = attempt.as_ref().parse() else {
                continue;
            };
            if name.as_ref() != INDEX {
                continue;
            }
            let index = self.store.get(&key).await.map_err(error())?;
            found.push((attempt, index.bytes().await.map_err(error())?));
        }
        Ok(found)
    }

    /// Removes the objects below a key that are `doomed`, and ends the uploads that notes among them speak of.
    pub(super) async fn delete_below(
        &self,
        prefix: &Key,
        doomed: impl Fn(&Key) -> bool,
    ) -> Result<(), ArtifactError> {
        let error = || bucket_error("delete", prefix);
        let listed = self.store.list(Some(prefix)).map_ok(|meta| meta.location);
        let mut keys: Vec<Key> = listed.try_collect().await.map_err(error())?;
        keys.retain(doomed);
        for key in &keys {
            upload::end_noted(&self.store, key).await?;
        }
        let keys = futures::stream::iter(keys.into_iter().map(Ok)).boxed();
        let deleted = self.store.delete_stream(keys);
        deleted
            .try_for_each(|_| std::future::ready(Ok(())))
            .await
            .map_err(error())
    }

    pub(super) async fn list(&self) -> Result<BTreeMap<JobId, Stored>, ArtifactError> {
        let jobs = self.keys.jobs();
        let mut found: BTreeMap<JobId, Stored> = BTreeMap::new();
        let mut listed = self.store.list(Some(&jobs));
        while let Some(meta) = listed
            .try_next()
            .await
            .map_err(bucket_error("list", &jobs))?
        {
            let Some((job, rest)) = self.keys.parse(&meta.location) else {
                continue;
            };
            let stored = found.entry(job).or_default();
            match rest.iter().map(String::as_str).collect::<Vec<_>>()[..] {
                [ATTEMPTS, attempt, ..] => stored.attempts.extend(attempt.parse::<u32>()),
                [CHECKPOINTS, ..] => stored.has_checkpoints = true,
                [UNKNOWN_SINCE] => {
                    let millis = meta.last_modified.timestamp_millis();
                    stored.unknown_since = Timestamp::from_millisecond(millis).ok();
                }
                _ => {}
            }
        }
        Ok(found)
    }

    /// Its time is that of the bucket, so a mark that is there is not written again.
    pub(super) async fn mark_unknown(&self, job: JobId) -> Result<(), ArtifactError> {
        let key = self.keys.unknown_since(job);
        match self.store.head(&key).await {
            Err(object_store::Error::NotFound { .. }) => self.put(&key, Vec::new()).await,
            found => found.map(drop).map_err(bucket_error("look up", &key)),
        }
    }

    pub(super) async fn unmark_unknown(&self, job: JobId) -> Result<(), ArtifactError> {
        self.delete(&self.keys.unknown_since(job)).await
    }
}

/// An endpoint whose host name begins with the bucket's is what the client expects in the other style.
fn endpoint_of(endpoint: &str, bucket: &str, path_style: bool) -> String {
    let endpoint = endpoint.trim_end_matches('/');
    match endpoint.split_once("://") {
        Some((scheme, host)) if !path_style => format!("{scheme}://{bucket}.{host}"),
        _ => endpoint.to_owned(),
    }
}
