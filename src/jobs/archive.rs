//! All files of an artifact as one tar archive, any part of which can be made by itself.

use std::ops::Range;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use sha2::{Digest as _, Sha256};

use super::results::ArtifactFile;
use super::{Error, Jobs};
use crate::artifacts::ByteStream;
use crate::domain::JobId;

/// Tar pads files to whole blocks, and ends with two empty ones.
const BLOCK: u64 = 512;

/// An archive, before a byte of it is read.
#[derive(Debug)]
pub struct Archive {
    parts: Vec<ArchivePart>,
}

/// Bytes of the archive that come from one place.
#[derive(Debug, Clone)]
enum ArchivePart {
    Made(Bytes),
    File(ArtifactFile),
}

impl ArchivePart {
    fn size(&self) -> u64 {
        match self {
            Self::Made(bytes) => bytes.len() as u64,
            Self::File(file) => file.entry.size_bytes,
        }
    }
}

impl Archive {
    fn new(id: JobId, files: Vec<ArtifactFile>) -> std::io::Result<Self> {
        let mut parts = Vec::new();
        for file in files {
            let (name, size) = (file.entry.name.clone(), file.entry.size_bytes);
            let mut header = tar::Header::new_ustar();
            header.set_path(format!("{id}/{name}"))?;
            header.set_size(size);
            header.set_mode(0o644);
            header.set_cksum();
            parts.push(ArchivePart::Made(Bytes::copy_from_slice(header.as_bytes())));
            parts.push(ArchivePart::File(file));
            parts.push(zeros(size.next_multiple_of(BLOCK) - size));
        }
        parts.push(zeros(2 * BLOCK));
        Ok(Self { parts })
    }

    /// Bytes of the whole.
    pub fn size(&self) -> u64 {
        self.parts.iter().map(ArchivePart::size).sum()
    }

    /// A digest of everything but the files' content, which it has the digests of.
    pub fn sha256(&self) -> String {
        let mut sha256 = Sha256::new();
        for part in &self.parts {
            match part {
                ArchivePart::Made(bytes) => sha256.update(bytes),
                ArchivePart::File(file) => sha256.update(&file.entry.sha256),
            }
        }
        hex::encode(sha256.finalize())
    }

    /// What the range has of each part.
    fn within(self, range: &Range<u64>) -> Vec<(ArchivePart, Range<u64>)> {
        let mut from = 0;
        let mut within = Vec::new();
        for part in self.parts {
            let to = from + part.size();
            let (start, end) = (range.start.max(from), range.end.min(to));
            if start < end {
                within.push((part, start - from..end - from));
            }
            from = to;
        }
        within
    }
}

#[expect(clippy::cast_possible_truncation, reason = "at most two blocks")]
fn zeros(count: u64) -> ArchivePart {
    const ZEROS: &[u8] = &[0; 2 * BLOCK as usize];
    ArchivePart::Made(Bytes::from_static(&ZEROS[..count as usize]))
}

impl Jobs {
    /// The archive of a succeeded job.
    pub async fn archive(&self, id: JobId) -> Result<Archive, Error> {
        let publication = self.publication(id).await?;
        let mut files = Vec::new();
        for file in &publication.files {
            files.push(self.artifact(id, &file.name).await?);
        }
        Archive::new(id, files).map_err(|error| Error::Unchecked(error.into()))
    }

    /// The bytes of an archive within `range`.
    pub fn read_archive(&self, archive: Archive, range: Range<u64>) -> ByteStream {
        let jobs = self.clone();
        let parts = stream::iter(archive.within(&range)).then(move |(part, range)| {
            let jobs = jobs.clone();
            async move {
                match part {
                    #[expect(clippy::cast_possible_truncation, reason = "at most two blocks")]
                    ArchivePart::Made(bytes) => {
                        let bytes = bytes.slice(range.start as usize..range.end as usize);
                        Ok(stream::iter([Ok(bytes)]).boxed())
                    }
                    ArchivePart::File(file) => {
                        let read = jobs.read_artifact(&file, range).await;
                        read.map_err(std::io::Error::other)
                    }
                }
            }
        });
        parts.try_flatten().boxed()
    }
}
