//! Reads the rows of one file, whatever its format, one after another.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::lines::{self, LineFormat};
use super::{DatasetError, records};
use crate::domain::{LFS_POINTER, is_lfs_pointer};

/// More than it takes to know a pointer of Git LFS.
const HEAD_BYTES: u64 = 64;

/// How the rows of a file are written, as its name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowFormat {
    /// One JSON object on each line, or one array of objects.
    Json {
        /// Whether it is compressed with gzip.
        is_compressed: bool,
    },
    /// WikiText's own form: rows with the field `text`, one on each line; it is the line with its newline, or nothing for a
    /// blank one. That is how the public data set gives its text.
    Raw,
    /// One object per record, see `records`.
    Parquet,
}

impl RowFormat {
    /// Endings of names, in lower case.
    const ENDINGS: [(&str, Self); 8] = [
        (".jsonl", Self::JSON),
        (".ndjson", Self::JSON),
        (".json", Self::JSON),
        (".jsonl.gz", Self::JSON_GZ),
        (".ndjson.gz", Self::JSON_GZ),
        (".json.gz", Self::JSON_GZ),
        (".raw", Self::Raw),
        (".parquet", Self::Parquet),
    ];

    const JSON: Self = Self::Json {
        is_compressed: false,
    };
    const JSON_GZ: Self = Self::Json {
        is_compressed: true,
    };

    /// `None` for a file without rows.
    pub fn of(path: &Path) -> Option<Self> {
        let name = path.to_string_lossy().to_lowercase();
        let mut endings = Self::ENDINGS.iter();
        endings
            .find(|(ending, _)| name.ends_with(ending))
            .map(|(_, format)| *format)
    }
}

/// Gives each of the first `limit` rows (`None` = all) to `each`; returns how many rows the file has. What `each` has to
/// say against a row is reported with the row's place.
///
/// Rows behind the limit are counted and not parsed.
pub fn read_rows(
    path: &Path,
    limit: Option<usize>,
    each: &mut dyn FnMut(Value) -> Result<(), String>,
) -> Result<usize, DatasetError> {
    let limit = limit.unwrap_or(usize::MAX);
    let Some(format) = RowFormat::of(path) else {
        let endings = RowFormat::ENDINGS.map(|(ending, _)| ending).join(", ");
        let reason = format!("its name ends in none of {endings}");
        return Err(DatasetError::invalid(path, reason));
    };
    refuse_pointer(path)?;
    let n_rows = match format {
        RowFormat::Json { is_compressed } => {
            lines::read(path, LineFormat::Json, is_compressed, limit, each)
        }
        RowFormat::Raw => lines::read(path, LineFormat::Raw, false, limit, each),
        RowFormat::Parquet => records::read(path, limit, each),
    }?;
    match n_rows {
        0 => Err(DatasetError::invalid(path, "it has no rows")),
        n_rows => Ok(n_rows),
    }
}

/// Refuses a file that was cloned without its content.
fn refuse_pointer(path: &Path) -> Result<(), DatasetError> {
    let mut head = Vec::new();
    File::open(path)
        .and_then(|file| file.take(HEAD_BYTES).read_to_end(&mut head))
        .map_err(|error| DatasetError::io(path, error))?;
    if is_lfs_pointer(&head) {
        return Err(DatasetError::invalid(path, LFS_POINTER));
    }
    Ok(())
}

/// SHA-256 of a file's bytes.
pub(super) fn file_digest(path: &Path) -> Result<[u8; 32], DatasetError> {
    let digest = || {
        let mut file = File::open(path)?;
        let mut sha256 = Sha256::new();
        let mut buffer = vec![0; 1 << 20];
        loop {
            let length = file.read(&mut buffer)?;
            if length == 0 {
                return io::Result::Ok(sha256.finalize().into());
            }
            sha256.update(&buffer[..length]);
        }
    };
    digest().map_err(|error| DatasetError::io(path, error))
}
