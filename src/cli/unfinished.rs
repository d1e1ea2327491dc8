//! Directories in which results are made before they take their name.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// What their names begin with.
const PREFIX: &str = ".secateur-unfinished-";

/// The only thing that is made in one.
const RESULT: &str = "artifact";

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
            // Before it is locked, another run may take it for abandoned.
            let handle = match File::open(dir.path()) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                opened => opened?,
            };
            let lock = handle.lock().is_ok().then_some(handle);
            if dir.path().try_exists()? {
                return Ok(Self { dir, _lock: lock });
            }
        }
    }

    /// Where the result is made.
    pub(super) fn result(&self) -> PathBuf {
        self.dir.path().join(RESULT)
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
        let Ok(dir) = File::open(&path) else { continue };
        // Locked until it is gone: whoever made it just now sees that. Another user's stays.
        if dir.try_lock().is_ok() && is_ours(&path) && fs::remove_dir_all(&path).is_ok() {
            eprintln!("removed {}, which a killed run left", path.display());
        }
    }
    Ok(())
}

/// Whether nothing but a result lies in it.
fn is_ours(dir: &Path) -> bool {
    fs::read_dir(dir).is_ok_and(|mut entries| {
        entries.all(|entry| entry.is_ok_and(|entry| entry.file_name() == RESULT))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_run_left_is_removed_and_nothing_else() {
        let parent = tempfile::tempdir().unwrap();
        let living = Unfinished::create(parent.path()).unwrap();
        let made = |name: &str| {
            let path = parent.path().join(name);
            fs::create_dir_all(&path).unwrap();
            path
        };
        let killed = [
            made(".secateur-unfinished-1/artifact/wanda-0.5"),
            made(".secateur-unfinished-2"),
        ];
        let others = [
            made("secateur-other/artifact"),
            made(".secateur-data/artifact"),
            made(".secateur-unfinished-home/artifacts"),
        ];
        let next = Unfinished::create(parent.path()).unwrap();
        assert!(living.dir.path().is_dir() && next.dir.path().is_dir());
        assert!(killed.iter().all(|path| !path.try_exists().unwrap()));
        assert!(others.iter().all(|path| path.is_dir()), "{others:?}");
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 5);
    }

    #[test]
    fn runs_that_begin_at_once_keep_their_directories() {
        let parent = tempfile::tempdir().unwrap();
        let run = || {
            for _ in 0..300 {
                let own = Unfinished::create(parent.path()).unwrap();
                fs::create_dir(own.result()).unwrap();
                std::thread::yield_now();
                assert!(own.result().is_dir());
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(run);
            }
        });
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }
}
