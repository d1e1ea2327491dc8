//! Copies a stored file to this machine.

use std::path::Path;

use futures::TryStreamExt as _;
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt as _;

use super::error::local_error;
use super::{ArtifactError, ByteStream};
use crate::domain::report::manifest::FileEntry;

/// How often a broken or incomplete file is requested.
const TRIES: u32 = 3;

/// Writes the bytes beside `target`, then renames the file once length and digest are right.
pub(super) async fn fetch<F>(
    read: impl Fn() -> F,
    file: &FileEntry,
    target: &Path,
) -> Result<(), ArtifactError>
where
    F: Future<Output = Result<ByteStream, ArtifactError>>,
{
    let there = tokio::fs::metadata(target).await;
    if there.is_ok_and(|there| there.len() == file.size_bytes) {
        return Ok(());
    }
    let partial = target.with_added_extension("partial");
    let mut tries = 1;
    while let Err(error) = write(read().await?, file, &partial).await {
        let may_help = !matches!(
            error,
            ArtifactError::Local {
                operation: "write",
                ..
            }
        );
        if tries == TRIES || !may_help {
            return Err(error);
        }
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "a stored file arrived broken, it is fetched again"
        );
        tries += 1;
    }
    let renamed = tokio::fs::rename(&partial, target).await;
    renamed.map_err(local_error("rename", &partial))
}

async fn write(mut stream: ByteStream, file: &FileEntry, path: &Path) -> Result<(), ArtifactError> {
    let created = tokio::fs::File::create(path).await;
    let mut copy = created.map_err(local_error("write", path))?;
    let (mut digest, mut length) = (Sha256::new(), 0);
    while let Some(bytes) = stream
        .try_next()
        .await
        .map_err(local_error("fetch", path))?
    {
        digest.update(&bytes);
        length += bytes.len() as u64;
        let written = copy.write_all(&bytes).await;
        written.map_err(local_error("write", path))?;
    }
    let synced = copy.sync_all().await;
    synced.map_err(local_error("write", path))?;
    check(file, length, &hex::encode(digest.finalize()))
}

/// Whether these are the file's length and digest.
pub(super) fn check(file: &FileEntry, length: u64, sha256: &str) -> Result<(), ArtifactError> {
    let damaged = |found: String, expected: String| ArtifactError::Damaged {
        file: file.name.clone(),
        found,
        expected,
    };
    if length != file.size_bytes {
        let bytes = |length| format!("{length} bytes");
        return Err(damaged(bytes(length), bytes(file.size_bytes)));
    }
    if sha256 != file.sha256 {
        let digest = |digest: &str| format!("the SHA-256 {digest}");
        return Err(damaged(digest(sha256), digest(&file.sha256)));
    }
    Ok(())
}
