//! The scratch directory of a job: its paths and its one lock.
//!
//! It belongs to the job, not to the attempt, and is kept between attempts. Its lock is held by whatever works there: the
//! process of an attempt, the worker that publishes what the process left, or the sweep that removes it.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use crate::domain::JobId;

/// The locked file. It holds the number of the attempt and, after a space, the id of its process; a worker leaves that out.
const LOCK_FILE: &str = "lock";

/// The extension of a directory that is being removed.
const REMOVED: &str = "removed";

/// The scratch directory of one job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScratchDir(PathBuf);

impl ScratchDir {
    /// The one of this job below `root`.
    pub fn of(root: &Path, id: JobId) -> Self {
        Self(root.join(id.to_string()))
    }

    /// The one at this path.
    pub fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The artifact, finished or not.
    pub fn artifact(&self) -> PathBuf {
        self.0.join("artifact")
    }

    /// The resume state that this machine saved.
    pub fn resume_state(&self) -> PathBuf {
        self.0.join("journal")
    }

    /// The resume state of another machine, for one attempt.
    pub fn received(&self, attempt: u32) -> PathBuf {
        self.0.join(format!("received-{attempt}"))
    }

    /// The artifacts of other jobs that were copied here.
    pub fn sources(&self) -> PathBuf {
        self.0.join("sources")
    }

    /// The name that it gets while it is being removed.
    pub fn removed(&self) -> PathBuf {
        self.0.with_extension(REMOVED)
    }

    /// Creates it, readable by its owner only: it may hold a gated model.
    pub fn create(&self) -> io::Result<()> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.0)
    }

    /// Locks it; `None` while the lock is held.
    pub fn try_lock(&self) -> io::Result<Option<ScratchLock>> {
        ScratchLock::open(self)?.try_lock()
    }

    /// The attempt that holds, or held, the lock, and the id of its process.
    pub fn holder(&self) -> Option<(u32, Option<i32>)> {
        let note = fs::read_to_string(self.lock_path()).ok()?;
        let mut words = note.split_whitespace();
        let attempt = words.next()?.parse().ok()?;
        Some((attempt, words.next().and_then(|word| word.parse().ok())))
    }

    /// The file that is locked.
    pub fn lock_path(&self) -> PathBuf {
        self.0.join(LOCK_FILE)
    }
}

/// The lock of a scratch directory, released when it is dropped.
#[derive(Debug)]
pub struct ScratchLock(File);

impl ScratchLock {
    fn open(directory: &ScratchDir) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false);
        options.open(directory.lock_path()).map(Self)
    }

    fn try_lock(self) -> io::Result<Option<Self>> {
        match self.0.try_lock() {
            Ok(()) => Ok(Some(self)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Writes down who holds it: an attempt, and its process unless the worker itself does.
    pub fn note(&mut self, attempt: u32, process: Option<u32>) -> io::Result<()> {
        let process = process.map_or_else(String::new, |id| format!(" {id}"));
        self.0.set_len(0)?;
        self.0.write_all(format!("{attempt}{process}\n").as_bytes())
    }
}

/// The jobs with a scratch directory below `root`, and the directories that are being removed. Other entries are not ours.
pub fn list(root: &Path) -> io::Result<(Vec<JobId>, Vec<PathBuf>)> {
    let (mut jobs, mut removed) = (Vec::new(), Vec::new());
    let entries = match fs::read_dir(root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((jobs, removed)),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        let Some(id) = stem.and_then(|stem| stem.parse().ok()) else {
            continue;
        };
        match path.extension() {
            None => jobs.push(id),
            Some(extension) if extension == REMOVED => removed.push(path),
            Some(_) => {}
        }
    }
    Ok((jobs, removed))
}
