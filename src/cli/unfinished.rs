//! Directories in which results are made before they take their name.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use tempfile::TempDir;

/// What their names begin with.
const PREFIX: &str = ".secateur-";

/// A directory that is removed when this is dropped, or by a later run if this one is killed.
#[derive(Debug)]
pub(super) struct Unfinished {
    dir: TempDir,
    /// Held while this process lives. `None` where the file system has no locks.
    _lock: Option<File>,
}

impl Unfinished {
    /// Makes one in `parent` and removes those that killed runs left there.
    pub(super) fn create(parent: &Path) -> io::Result<Self> {
        remove_abandoned(parent)?;
        loop {
            let dir = tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent)?;
            let handle = File::open(dir.path())?;
            let lock = handle.lock().is_ok().then_some(handle);
            // Before it was locked, another run may have taken it for abandoned.
            if dir.path().try_exists()? {
                return Ok(Self { dir, _lock: lock });
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }
}

#[expect(clippy::print_stderr, reason = "what is removed is said")]
fn remove_abandoned(parent: &Path) -> io::Result<()> {
    for entry in fs::read_dir(parent)? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) || !entry.file_type()?.is_dir()
        {
            continue;
        }
        let path = entry.path();
        let is_abandoned = File::open(&path).is_ok_and(|dir| dir.try_lock().is_ok());
        // Another user's stays.
        if is_abandoned && fs::remove_dir_all(&path).is_ok() {
            eprintln!("removed {}, which a killed run left", path.display());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_run_left_is_removed_and_nothing_else() {
        let parent = tempfile::tempdir().unwrap();
        let living = Unfinished::create(parent.path()).unwrap();
        for name in [".secateur-killed", "secateur-other"] {
            fs::create_dir_all(parent.path().join(name).join("artifact")).unwrap();
        }
        let next = Unfinished::create(parent.path()).unwrap();
        assert!(living.path().is_dir() && next.path().is_dir());
        assert!(parent.path().join("secateur-other").is_dir());
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 3);
    }
}
