//! Free disk space, asked for before gigabytes are written.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
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

    /// The space that is missing where `scratch` lies: on another disk no worker would have more.
    pub fn outage(&self, scratch: &Path) -> Option<Outage> {
        match self {
            Self::InsufficientDisk {
                dir, needed_bytes, ..
            } if are_on_one_disk(dir, scratch) => Some(Outage::Disk(*needed_bytes)),
            _ => None,
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

/// Whether two directories, which need not exist yet, lie on one file system.
fn are_on_one_disk(one: &Path, other: &Path) -> bool {
    let device = |dir: &Path| {
        let found = dir.ancestors().find_map(|dir| fs::metadata(dir).ok());
        found.map(|found| found.dev())
    };
    device(one).is_some_and(|found| device(other) == Some(found))
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
    #[test]
    fn a_job_waits_for_the_disk_of_its_scratch_directory_alone() {
        let (home, other) = (tempfile::tempdir().unwrap(), Path::new("/proc"));
        let scratch = home.path().join("scratch/job");
        let missing = |dir: &Path| DiskError::InsufficientDisk {
            dir: dir.to_path_buf(),
            needed_bytes: 7,
            free_bytes: 6,
        };
        let outage = |dir: &Path| missing(dir).outage(&scratch);
        assert_eq!(outage(&home.path().join("cache")), Some(Outage::Disk(7)));
        assert_eq!(outage(other), None);
    }
}
