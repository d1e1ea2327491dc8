//! Writes one file into a bucket.
//!
//! A large one goes up in parts. Parts of an upload that never ends are kept, and paid for, and no listing shows them;
//! so a note with the upload's id is left in the bucket first, and removing the files beside the note aborts the upload
//! too. (The `MultipartUpload` of `object_store` would be simpler, but it keeps the id to itself.)

use std::fs::File;
use std::io::Read as _;

use bytes::Bytes;
use futures::TryStreamExt as _;
use futures::stream::FuturesOrdered;
use object_store::aws::AmazonS3;
use object_store::multipart::{MultipartStore as _, PartId};
use object_store::path::Path as Key;
use object_store::{ObjectStoreExt as _, PutPayload};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::ArtifactError;
use super::error::bucket_error;
use super::keys::UPLOADS;
use crate::domain::report::manifest::FileEntry;

/// Length of the parts, unless that would be too many of them.
const PART: u64 = 16 << 20;

/// The most parts that an upload may have, and some to spare.
const MOST_PARTS: u64 = 9_000;

/// Parts on the way at the same time; each is in memory.
const AT_ONCE: usize = 3;

/// The note in the bucket during an upload.
#[derive(Serialize, Deserialize)]
struct UploadNote {
    key: String,
    id: String,
}

/// A file that is read once, part by part.
struct PartReader {
    file: File,
    part: u64,
    digest: Sha256,
    length: u64,
}

/// Writes `file`, read from where it is now, to `folder/name`. It becomes visible once `check` agrees to what was read.
pub(super) async fn upload(
    store: &AmazonS3,
    folder: &Key,
    name: &str,
    file: File,
    check: impl FnOnce(&FileEntry) -> Result<(), ArtifactError>,
) -> Result<FileEntry, ArtifactError> {
    let key = folder.clone().join(name);
    let failed = |source| ArtifactError::Local {
        operation: "read",
        path: name.into(),
        source,
    };
    let length = file.metadata().map_err(failed)?.len();
    let part = PART.max(length.div_ceil(MOST_PARTS));
    let parts = PartReader {
        file,
        part,
        digest: Sha256::new(),
        length: 0,
    };
    if length <= part {
        let (bytes, parts) = parts.next().await.map_err(failed)?;
        let sum = parts.sum(name);
        check(&sum)?;
        let put = store.put(&key, PutPayload::from_bytes(bytes)).await;
        put.map_err(bucket_error("write", &key))?;
        return Ok(sum);
    }
    let note_key = note_key(folder, name);
    let id = store.create_multipart(&key).await;
    let id = id.map_err(bucket_error("begin", &key))?;
    let note = UploadNote {
        key: key.to_string(),
        id: id.clone(),
    };
    let sent = async {
        let note = serde_json::to_vec(&note).map_err(|error| failed(error.into()))?;
        let noted = store.put(&note_key, note.into()).await;
        noted.map_err(bucket_error("write", &note_key))?;
        let (ids, parts) = send_parts(store, &key, &id, parts).await?;
        let sum = parts.sum(name);
        check(&sum)?;
        let completed = store.complete_multipart(&key, &id, ids).await;
        completed.map_err(bucket_error("complete", &key))?;
        Ok(sum)
    };
    let sent = sent.await;
    if sent.is_err() {
        // What cannot be ended now is, by its note, when the files beside it are removed.
        if store.abort_multipart(&key, &id).await.is_err() {
            return sent;
        }
    }
    if let Err(error) = store.delete(&note_key).await {
        tracing::warn!(error = %super::Fault::new(&error), key = %note_key, "cannot remove the note on an upload, the sweep will");
    }
    sent
}

/// Sends every part; returns their ids and the reader.
async fn send_parts(
    store: &AmazonS3,
    key: &Key,
    id: &String,
    parts: PartReader,
) -> Result<(Vec<PartId>, PartReader), ArtifactError> {
    let mut sending = FuturesOrdered::new();
    let mut sent = Vec::new();
    let mut parts = parts;
    for index in 0.. {
        let (bytes, next) = parts.next().await.map_err(|source| ArtifactError::Local {
            operation: "read",
            path: key.as_ref().into(),
            source,
        })?;
        parts = next;
        if bytes.is_empty() {
            break;
        }
        if sending.len() == AT_ONCE {
            sent.extend(sending.try_next().await?);
        }
        sending.push_back(async move {
            let sent = store.put_part(key, id, index, bytes.into()).await;
            sent.map_err(bucket_error("write a part of", key))
        });
    }
    while let Some(part) = sending.try_next().await? {
        sent.push(part);
    }
    Ok((sent, parts))
}

impl PartReader {
    /// Reads and hashes the next part, off the async threads.
    async fn next(mut self) -> std::io::Result<(Bytes, Self)> {
        let read = tokio::task::spawn_blocking(move || {
            let mut bytes = Vec::new();
            let limit = self.part;
            let read = (&mut self.file).take(limit).read_to_end(&mut bytes);
            read.map(|length| {
                self.digest.update(&bytes);
                self.length += length as u64;
                (Bytes::from(bytes), self)
            })
        });
        read.await
            .unwrap_or_else(|panic| Err(std::io::Error::other(panic)))
    }

    /// What was read so far.
    fn sum(&self, name: &str) -> FileEntry {
        FileEntry {
            name: name.to_owned(),
            size_bytes: self.length,
            sha256: hex::encode(self.digest.clone().finalize()),
        }
    }
}

/// In the folder of notes beside this one.
fn note_key(folder: &Key, name: &str) -> Key {
    let beside = folder
        .as_ref()
        .rsplit_once('/')
        .map_or("", |(rest, _)| rest);
    Key::from(beside).join(UPLOADS).join(name)
}

/// Aborts the upload that a note names, if it is still open. Other keys are left alone.
pub(super) async fn abort_noted(store: &AmazonS3, key: &Key) -> Result<(), ArtifactError> {
    let folder = key.parts().rev().nth(1);
    if folder.is_none_or(|folder| folder.as_ref() != UPLOADS) {
        return Ok(());
    }
    let error = || bucket_error("end the upload of", key);
    let note = match store.get(key).await {
        Err(object_store::Error::NotFound { .. }) => return Ok(()),
        found => found.map_err(error())?.bytes().await.map_err(error())?,
    };
    let Ok(note) = serde_json::from_slice::<UploadNote>(&note) else {
        return Ok(());
    };
    let Ok(target) = Key::parse(&note.key) else {
        return Ok(());
    };
    match store.abort_multipart(&target, &note.id).await {
        // Ended before, one way or the other.
        Err(object_store::Error::NotFound { .. }) => Ok(()),
        // Some stores say that of an upload that has ended. What it left must not keep the files.
        Err(source @ object_store::Error::PermissionDenied { .. }) => {
            tracing::warn!(error = %super::Fault::new(&source), %key, "cannot end an upload");
            Ok(())
        }
        aborted => aborted.map_err(error()),
    }
}
