//! The documents of a task.

use std::path::Path;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::rows::file_digest;
use super::{DatasetError, read_rows};

/// The first rows of a split, and what identifies the split.
#[derive(Debug, Clone, PartialEq)]
pub struct SplitRows {
    /// The rows asked for, JSON objects, in the order of the files.
    pub rows: Vec<Value>,
    /// How many rows the files have in all.
    pub n_rows: usize,
    /// SHA-256 of the file, in hexadecimal; of several files, SHA-256 of their digests (32 bytes each) in order. The
    /// same rows in another format have another digest.
    pub sha256: String,
}

impl SplitRows {
    /// Reads the first `limit` rows (`None` = all) of the files, one after another.
    pub fn read<P: AsRef<Path>>(files: &[P], limit: Option<usize>) -> Result<Self, DatasetError> {
        let mut rows = Vec::new();
        let mut n_rows = 0;
        let mut digests = Vec::with_capacity(files.len());
        for file in files {
            let file = file.as_ref();
            digests.push(file_digest(file)?);
            let still_wanted = limit.map(|limit| limit - rows.len());
            n_rows += read_rows(file, still_wanted, &mut |row| {
                rows.push(row);
                Ok(())
            })?;
        }
        Ok(Self {
            rows,
            n_rows,
            sha256: digest_of(&digests),
        })
    }
}

fn digest_of(digests: &[[u8; 32]]) -> String {
    match digests {
        [digest] => hex::encode(digest),
        digests => hex::encode(Sha256::digest(digests.concat())),
    }
}

#[cfg(test)]
mod tests;
