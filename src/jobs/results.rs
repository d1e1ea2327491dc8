//! What succeeded jobs have brought: their results and the files of their artifacts.

use std::ops::Range;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};

use super::{Error, Jobs};
use crate::artifacts::ByteStream;
use crate::domain::JobId;
use crate::domain::job::Publication;
use crate::domain::report::manifest::FileEntry;
use crate::instruments;

/// A file of a succeeded job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArtifactFile {
    job_id: JobId,
    attempt: u32,
    /// Its name, length and digest.
    pub entry: FileEntry,
}

impl Jobs {
    /// What a succeeded job brought.
    pub async fn publication(&self, id: JobId) -> Result<Publication, Error> {
        let job = self.get(id).await?;
        let publication = self.parts.store.lookup_publication(id).await?;
        publication.ok_or(Error::ResultsNotReady {
            id,
            state: job.state,
        })
    }

    /// One file of a succeeded job.
    pub async fn artifact(&self, id: JobId, name: &str) -> Result<ArtifactFile, Error> {
        let not_found = || Error::ArtifactNotFound {
            id,
            name: name.to_owned(),
        };
        self.get(id).await?;
        let publication = self
            .parts
            .store
            .lookup_publication(id)
            .await?
            .ok_or_else(not_found)?;
        let attempt = publication.attempt;
        let entry = publication
            .files
            .into_iter()
            .find(|file| file.name == name)
            .ok_or_else(not_found)?;
        let stored = self.parts.artifacts.size(id, attempt, name).await?;
        if stored != Some(entry.size_bytes) {
            // Deleted in this moment, it has no files any more.
            self.get(id).await?;
            return Err(Error::ArtifactDamaged {
                id,
                name: entry.name,
                stored,
                expected: entry.size_bytes,
            });
        }
        Ok(ArtifactFile {
            job_id: id,
            attempt,
            entry,
        })
    }

    /// The bytes of a file within `range`.
    pub async fn read_artifact(
        &self,
        file: &ArtifactFile,
        range: Range<u64>,
    ) -> Result<ByteStream, Error> {
        let bytes = self
            .parts
            .artifacts
            .read(file.job_id, file.attempt, &file.entry.name, range)
            .await?;
        let count = |chunk: &Bytes| {
            metrics::counter!(instruments::ARTIFACT_BYTES, "direction" => "out")
                .increment(chunk.len() as u64);
        };
        Ok(bytes.inspect_ok(count).boxed())
    }

    /// Where a client can get the file by itself for a few minutes; `None` where it must be read here.
    pub async fn artifact_link(
        &self,
        file: &ArtifactFile,
        disposition: &str,
    ) -> Result<Option<String>, Error> {
        let (artifacts, name) = (&self.parts.artifacts, &file.entry.name);
        let link = artifacts.link(file.job_id, file.attempt, name, disposition);
        Ok(link.await?)
    }
}
