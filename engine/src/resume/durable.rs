//! Files that count only when they are whole and on disk.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use sha2::{Digest as _, Sha256};

use crate::error::{EngineError, Result};

/// Writes a file beside `path`, waits until it is on disk, and moves it there.
pub(super) fn write_durably(
    path: &Path,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> Result<()> {
    let beside = path.with_extension("partial");
    let mut file = File::create(&beside).map_err(EngineError::io("write", path))?;
    write(&mut file).map_err(EngineError::io("write", path))?;
    move_into_place(&file, &beside, path)
}

/// Waits until the file `beside` is on disk, and moves it to `path`.
pub(super) fn move_into_place(file: &File, beside: &Path, path: &Path) -> Result<()> {
    file.sync_all()
        .and_then(|()| fs::rename(beside, path))
        .map_err(EngineError::io("write", path))?;
    sync_dir(path.parent().unwrap_or(path))
}

pub(super) fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(EngineError::io("sync", dir))
}

/// The SHA-256 of a file.
pub(super) fn digest_of(path: &Path) -> io::Result<String> {
    let mut hashing = Hashing::new(io::sink());
    io::copy(&mut File::open(path)?, &mut hashing)?;
    Ok(hashing.finish().1)
}

/// A writer that hashes what it writes.
#[derive(Debug)]
pub(super) struct Hashing<W> {
    inner: W,
    digest: Sha256,
}

impl<W: Write> Hashing<W> {
    pub(super) fn new(inner: W) -> Self {
        Self {
            inner,
            digest: Sha256::new(),
        }
    }

    /// The inner writer and the digest.
    pub(super) fn finish(self) -> (W, String) {
        (self.inner, hex(&self.digest.finalize()))
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(bytes)?;
        self.digest.update(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let written = write!(text, "{byte:02x}");
        debug_assert!(written.is_ok(), "a String takes everything");
        text
    })
}
