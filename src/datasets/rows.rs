//! Reads the rows of one file, whatever its format, one after another.
//!
//! - `.jsonl`: one JSON object per line; blank lines are nothing.
//! - `.jsonl.gz`, `.json.gz`: the same, compressed.
//! - `.raw`, WikiText's own form: rows with the field `text`, one per line; it is the line with its newline, or nothing
//!   for a blank one. That is how the public data set gives its text.
//! - `.parquet`: one object per record, see [`records`](super::records).

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::lines::{self, LineFormat};
use super::{DatasetError, records};

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
    let name = path.to_string_lossy();
    let has_ending = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
    let mut lines = |format, is_compressed| lines::read(path, format, is_compressed, limit, each);
    let n_rows = if has_ending(&[".jsonl"]) {
        lines(LineFormat::Json, false)
    } else if has_ending(&[".jsonl.gz", ".json.gz"]) {
        lines(LineFormat::Json, true)
    } else if has_ending(&[".raw"]) {
        lines(LineFormat::Raw, false)
    } else if has_ending(&[".parquet"]) {
        records::read(path, limit, each)
    } else {
        let reason = "its name ends in none of .jsonl, .jsonl.gz, .json.gz, .raw, .parquet";
        return Err(DatasetError::invalid(path, reason));
    }?;
    match n_rows {
        0 => Err(DatasetError::invalid(path, "it has no rows")),
        n_rows => Ok(n_rows),
    }
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
