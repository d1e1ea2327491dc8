//! Tells living workers of this machine from dead ones by the lock that a worker holds on its own file.
//!
//! The operating system drops the lock with the process, however that ended. So after `kill -9` the next worker knows
//! at once, and need not wait for the lease of the dead one to run out.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use uuid::Uuid;

/// The extension of a worker's lock file.
const LOCK: &str = "lock";

/// The extension while the file is not locked yet.
const UNLOCKED: &str = "new";

/// The lock of a living worker; dropping it releases it.
#[derive(Debug)]
pub(super) struct WorkerLock {
    worker_id: String,
    path: PathBuf,
    /// Whether the file stays, because the worker still holds a lease.
    is_left_behind: AtomicBool,
    /// Holds the lock.
    _file: File,
}

impl WorkerLock {
    /// Takes a new id and locks its file.
    pub(super) fn acquire(directory: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        loop {
            match Self::acquire_once(directory) {
                // Another worker came between creating and locking, and took the file for a dead one's.
                Err(error) if error.kind() == io::ErrorKind::NotFound && directory.is_dir() => {}
                other => return other,
            }
        }
    }

    fn acquire_once(directory: &Path) -> io::Result<Self> {
        let worker_id = format!("worker_{}", Uuid::now_v7().simple());
        let path = lock_path(directory, &worker_id);
        // Locked before it has its name: it is never found unlocked while the worker lives.
        let unlocked = path.with_extension(UNLOCKED);
        let file = File::create(&unlocked)?;
        file.lock()?;
        fs::rename(&unlocked, &path)?;
        Ok(Self {
            worker_id,
            path,
            is_left_behind: AtomicBool::new(false),
            _file: file,
        })
    }

    pub(super) fn worker_id(&self) -> &str {
        &self.worker_id
    }

    /// Leaves the unlocked file behind, so that the next worker reclaims this one's jobs at once instead of waiting for
    /// their leases to run out.
    pub(super) fn leave_behind(&self) {
        self.is_left_behind.store(true, Ordering::Relaxed);
    }
}

impl Drop for WorkerLock {
    fn drop(&mut self) {
        if self.is_left_behind.load(Ordering::Relaxed) {
            return;
        }
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(%error, path = %self.path.display(), "cannot remove the worker's lock file");
        }
    }
}

/// The workers of this machine that are dead.
#[derive(Debug, Default)]
pub(super) struct DeadWorkers {
    worker_ids: HashSet<String>,
    files: Vec<PathBuf>,
}

impl DeadWorkers {
    /// Finds them. None of them claims a job after this.
    pub(super) fn list(directory: &Path) -> io::Result<Self> {
        let mut dead = Self::default();
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            let is_announced = match path.extension().and_then(OsStr::to_str) {
                Some(LOCK) => true,
                // Of a worker that died before it had a name.
                Some(UNLOCKED) => false,
                _ => continue,
            };
            if !is_unlocked(&path) {
                continue;
            }
            if let Some(worker_id) = path.file_stem().and_then(OsStr::to_str)
                && is_announced
            {
                dead.worker_ids.insert(worker_id.to_owned());
            }
            dead.files.push(path);
        }
        Ok(dead)
    }

    /// Whether this worker is known to be dead.
    pub(super) fn contains(&self, worker_id: &str) -> bool {
        self.worker_ids.contains(worker_id)
    }

    /// The ids of the dead workers.
    pub(super) fn worker_ids(&self) -> impl Iterator<Item = &str> {
        self.worker_ids.iter().map(String::as_str)
    }

    /// Removes the files of these workers only: others that died since may hold leases that were not checked.
    pub(super) fn remove(&self) -> io::Result<()> {
        for path in &self.files {
            match fs::remove_file(path) {
                // Another worker cleaned up, or it got its name after all.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
        }
        Ok(())
    }
}

fn lock_path(directory: &Path, worker_id: &str) -> PathBuf {
    directory.join(format!("{worker_id}.{LOCK}"))
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
        let lock = WorkerLock::acquire(directory.path()).unwrap();
        for name in ["worker_killed.lock", "worker_starting.new", "notes.txt"] {
            File::create(directory.path().join(name)).unwrap();
        }
        let dead = DeadWorkers::list(directory.path()).unwrap();
        let found = [
            lock.worker_id(),
            "worker_killed",
            "worker_starting",
            "worker_of_another_machine",
        ]
        .map(|worker_id| dead.contains(worker_id));
        assert_eq!(found, [false, true, false, false]);
        // Not among those that were looked up.
        File::create(directory.path().join("worker_later.lock")).unwrap();
        dead.remove().unwrap();
        dead.remove().unwrap();
        let mut left: Vec<_> = fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        left.sort();
        let mut expected = vec![
            lock.path.clone(),
            directory.path().join("notes.txt"),
            directory.path().join("worker_later.lock"),
        ];
        expected.sort();
        assert_eq!(left, expected);
    }

    #[test]
    fn a_worker_that_is_left_behind_counts_as_dead_when_it_has_stopped() {
        let directory = tempfile::tempdir().unwrap();
        for is_left_behind in [false, true] {
            let lock = WorkerLock::acquire(directory.path()).unwrap();
            if is_left_behind {
                lock.leave_behind();
            }
            let worker_id = lock.worker_id().to_owned();
            drop(lock);
            let dead = DeadWorkers::list(directory.path()).unwrap();
            assert_eq!(dead.contains(&worker_id), is_left_behind);
        }
    }
}
