//! Holds the attempts of a home at a point, so that what shall catch them there never comes too late.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::support::processes::until;

/// A closed gate; attempts go on when it is dropped.
pub(crate) struct Gate {
    path: PathBuf,
    _lock: File,
}

impl Gate {
    /// Holds every attempt of `home` at `point`: the name of a phase, or `block-K` for K finished blocks.
    pub(crate) fn close(home: &Path, point: &str) -> Self {
        let directory = home.join("gates");
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join(point);
        // Under its name only when it is locked, or an attempt could pass.
        let beside = path.with_extension("new");
        let lock = File::create(&beside).unwrap();
        lock.lock().unwrap();
        fs::rename(beside, &path).unwrap();
        Self { path, _lock: lock }
    }

    /// Returns when an attempt stands before the gate.
    pub(crate) fn wait_for_arrival(&self) {
        let arrived = self.path.with_extension("arrived");
        until("an attempt at the gate", || {
            arrived.try_exists().unwrap().then_some(())
        });
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        // The directory may be gone already.
        drop(fs::remove_file(&self.path));
        drop(fs::remove_file(self.path.with_extension("arrived")));
    }
}
