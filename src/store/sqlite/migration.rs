//! One process at a time brings the schema up to date.
//!
//! The driver has no lock for that on SQLite, and a database that several processes create at once fails in all of
//! them but one. The lock is on the directory: one on the file itself would take SQLite's own locks with it.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

/// Longer than any migration takes.
const PATIENCE: Duration = Duration::from_mins(1);

/// How often the lock is tried.
const RETRY: Duration = Duration::from_millis(20);

/// Holds the lock until it is dropped.
pub(super) async fn lock(database: &Path) -> io::Result<File> {
    let directory = match database.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let file = File::open(directory)?;
    let began = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if began.elapsed() > PATIENCE => {
                let message = format!(
                    "another process has been changing it for longer than {} s",
                    PATIENCE.as_secs()
                );
                return Err(io::Error::new(io::ErrorKind::TimedOut, message));
            }
            Err(TryLockError::WouldBlock) => tokio::time::sleep(RETRY).await,
        }
    }
}
