//! Free disk space, asked for before gigabytes are written.

use std::io;
use std::path::{Path, PathBuf};

use crate::domain::ErrorCode;

/// Why a directory cannot take what shall be written to it.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// Too little is free.
    #[error("{needed_bytes} bytes are needed in {dir}, {free_bytes} are free", dir = dir.display())]
    InsufficientDisk {
        /// Where it shall be written.
        dir: PathBuf,
        /// How much shall be written.
        needed_bytes: u64,
        /// How much is free to this user.
        free_bytes: u64,
    },
    /// The file system does not say.
    #[error("cannot read the free space of {}", dir.display())]
    Statvfs {
        /// Where it shall be written.
        dir: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl DiskError {
    /// The stable reason.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::InsufficientDisk { .. } => ErrorCode::InsufficientDisk,
            Self::Statvfs { .. } => ErrorCode::Io,
        }
    }
}

/// Fails when less than `needed_bytes` are free for `dir`, which need not exist yet.
pub fn ensure_free(dir: &Path, needed_bytes: u64) -> Result<(), DiskError> {
    let free_bytes = free_bytes(dir).map_err(|source| DiskError::Statvfs {
        dir: dir.to_path_buf(),
        source,
    })?;
    if free_bytes < needed_bytes {
        return Err(DiskError::InsufficientDisk {
            dir: dir.to_path_buf(),
            needed_bytes,
            free_bytes,
        });
    }
    Ok(())
}

/// Bytes that this user may still write where `dir` lies or, as long as it does not exist, its nearest ancestor.
pub fn free_bytes(dir: &Path) -> io::Result<u64> {
    let dir = std::path::absolute(dir)?;
    for ancestor in dir.ancestors() {
        match rustix::fs::statvfs(ancestor) {
            Ok(stat) => return Ok(stat.f_bavail.saturating_mul(stat.f_frsize)),
            Err(rustix::io::Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_does_not_exist_yet_has_the_space_of_its_ancestor() {
        let dir = tempfile::tempdir().unwrap();
        assert!(free_bytes(&dir.path().join("a/b/c")).unwrap() > 0);
        ensure_free(&dir.path().join("a/b/c"), 1).unwrap();
    }

    #[test]
    fn more_than_any_disk_holds_is_refused_with_the_numbers() {
        let dir = tempfile::tempdir().unwrap();
        let error = ensure_free(dir.path(), u64::MAX).unwrap_err();
        assert_eq!(error.code(), ErrorCode::InsufficientDisk);
        let message = error.to_string();
        assert!(message.contains("18446744073709551615 bytes"), "{message}");
        assert!(message.contains(dir.path().to_str().unwrap()), "{message}");
    }
}
