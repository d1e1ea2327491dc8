//! Tells living workers of this machine from dead ones by the lock that a worker holds on its own file.
//!
//! The operating system drops the lock with the process, however that ended. So after `kill -9` the next worker knows
//! at once, and need not wait for the lease of the dead one to run out.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use uuid::Uuid;

/// A worker's sign of life, for as long as this value exists.
#[derive(Debug)]
pub(super) struct Presence {
    worker_id: String,
    path: PathBuf,
    /// Holds the lock.
    _file: File,
}

impl Presence {
    /// Takes a fresh id and locks its file.
    pub(super) fn announce(directory: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let worker_id = format!("worker_{}", Uuid::now_v7().simple());
        let path = lock_path(directory, &worker_id);
        // Locked before it has its name: nobody can find it unlocked while it lives.
        let unnamed = path.with_extension("new");
        let file = File::create(&unnamed)?;
        file.lock()?;
        fs::rename(&unnamed, &path)?;
        Ok(Self {
            worker_id,
            path,
            _file: file,
        })
    }

    pub(super) fn worker_id(&self) -> &str {
        &self.worker_id
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(%error, path = %self.path.display(), "cannot remove the worker's lock file");
        }
    }
}

/// Whether the worker ran on this machine and is gone. `false` also where nothing is known of it.
pub(super) fn is_dead(directory: &Path, worker_id: &str) -> bool {
    is_unlocked(&lock_path(directory, worker_id))
}

/// Removes the files of dead workers.
pub(super) fn remove_dead(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "lock")
            && is_unlocked(&path)
        {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

fn lock_path(directory: &Path, worker_id: &str) -> PathBuf {
    directory.join(format!("{worker_id}.lock"))
}

fn is_unlocked(path: &Path) -> bool {
    let Ok(file) = File::open(path) else {
        return false;
    };
    match file.try_lock() {
        Ok(()) => true,
        Err(TryLockError::WouldBlock) => false,
        Err(TryLockError::Error(error)) => {
            tracing::warn!(%error, path = %path.display(), "cannot try a worker's lock");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_dead_when_its_lock_is_gone_and_its_file_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let presence = Presence::announce(directory.path()).unwrap();
        assert!(!is_dead(directory.path(), presence.worker_id()));
        assert!(!is_dead(directory.path(), "worker_of_another_machine"));

        File::create(directory.path().join("worker_killed.lock")).unwrap();
        assert!(is_dead(directory.path(), "worker_killed"));
        remove_dead(directory.path()).unwrap();
        assert!(!is_dead(directory.path(), "worker_killed"));
        assert!(fs::exists(&presence.path).unwrap());
    }
}
