//! Stored files as objects under keys: what a folder and a bucket have in common.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use object_store::path::Path as Key;
use object_store::{GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt as _};

use super::keys::Root;
use super::{ArtifactError, ByteStream, fetch};
use crate::domain::report::manifest::FileEntry;

/// Makes our error of what was tried, on which object, and what the store said.
type Failed = fn(&'static str, &Key, object_store::Error) -> ArtifactError;

/// The objects of a folder or a bucket. Cheap to clone.
#[derive(Clone)]
pub struct Objects {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) keys: Root,
    failed: Failed,
}

impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The store may know credentials.
        f.debug_tuple("Objects").field(&self.keys).finish()
    }
}

impl Objects {
    pub(super) fn new(store: Arc<dyn ObjectStore>, keys: Root, failed: Failed) -> Self {
        Self {
            store,
            keys,
            failed,
        }
    }

    /// Length of an object; `None` when it is not there.
    pub(super) async fn size(&self, key: &Key) -> Result<Option<u64>, ArtifactError> {
        Ok(self.look_up(key).await?.map(|meta| meta.size))
    }

    /// When an object was written; `None` when it is not there.
    pub(super) async fn written_at(&self, key: &Key) -> Result<Option<Timestamp>, ArtifactError> {
        Ok(self.look_up(key).await?.as_ref().and_then(written_at))
    }

    async fn look_up(&self, key: &Key) -> Result<Option<ObjectMeta>, ArtifactError> {
        match self.store.head(key).await {
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            found => found.map(Some).map_err(self.failed("look up", key)),
        }
    }

    /// The bytes of an object within `range`.
    pub(super) async fn read(
        &self,
        key: &Key,
        range: Range<u64>,
    ) -> Result<ByteStream, ArtifactError> {
        if range.is_empty() {
            return Ok(futures::stream::empty().boxed());
        }
        let options = GetOptions {
            range: Some(GetRange::Bounded(range)),
            ..GetOptions::default()
        };
        let found = self.store.get_opts(key, options).await;
        let bytes = found.map_err(self.failed("read", key))?.into_stream();
        let (failed, key) = (self.failed, key.clone());
        let bytes = bytes.map_err(move |error| io::Error::other(failed("read", &key, error)));
        Ok(bytes.boxed())
    }

    /// The text of a small object, without white space around it; `None` when it is not there.
    pub(super) async fn read_text(&self, key: &Key) -> Result<Option<String>, ArtifactError> {
        let found = match self.store.get(key).await {
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            found => found.map_err(self.failed("read", key))?,
        };
        let bytes = found.bytes().await.map_err(self.failed("read", key))?;
        Ok(Some(String::from_utf8_lossy(&bytes).trim().to_owned()))
    }

    /// Copies an object to a file, and checks that it is what was stored.
    pub(super) async fn fetch(
        &self,
        key: &Key,
        file: &FileEntry,
        target: &Path,
    ) -> Result<(), ArtifactError> {
        fetch::fetch(|| self.read(key, 0..file.size_bytes), file, target).await
    }

    /// Writes a small object.
    pub(super) async fn put(&self, key: &Key, bytes: Vec<u8>) -> Result<(), ArtifactError> {
        let put = self.store.put(key, bytes.into()).await;
        put.map(drop).map_err(self.failed("write", key))
    }

    /// Writes an empty object unless it is there: its time stays that of the first call.
    pub(super) async fn put_once(&self, key: &Key) -> Result<(), ArtifactError> {
        match self.look_up(key).await? {
            Some(_) => Ok(()),
            None => self.put(key, Vec::new()).await,
        }
    }

    /// Removes an object, if it is there.
    pub(super) async fn delete(&self, key: &Key) -> Result<(), ArtifactError> {
        match self.store.delete(key).await {
            Err(object_store::Error::NotFound { .. }) => Ok(()),
            deleted => deleted.map_err(self.failed("delete", key)),
        }
    }

    /// Every key below a prefix.
    pub(super) async fn keys_below(&self, prefix: &Key) -> Result<Vec<Key>, ArtifactError> {
        let listed = self.store.list(Some(prefix)).map_ok(|meta| meta.location);
        listed
            .try_collect()
            .await
            .map_err(self.failed("list", prefix))
    }

    /// Names what was tried on which object.
    pub(super) fn failed(
        &self,
        operation: &'static str,
        key: &Key,
    ) -> impl FnOnce(object_store::Error) -> ArtifactError {
        let (failed, key) = (self.failed, key.clone());
        move |source| failed(operation, &key, source)
    }
}

/// When an object was written, as its store says.
pub(super) fn written_at(meta: &ObjectMeta) -> Option<Timestamp> {
    Timestamp::from_millisecond(meta.last_modified.timestamp_millis()).ok()
}
