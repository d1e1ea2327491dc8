//! Free disk space, asked for before gigabytes are written.

use std::io;
use std::path::{Path, PathBuf};

use crate::domain::ErrorCode;
use crate::domain::attempt::Outage;
use crate::machine::free_bytes;

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

    /// The space that is missing.
    pub fn outage(&self) -> Option<Outage> {
        match self {
            Self::InsufficientDisk { needed_bytes, .. } => Some(Outage::Disk(*needed_bytes)),
            Self::Statvfs { .. } => None,
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

#[cfg(test)]
mod tests {
    use super::*;

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
