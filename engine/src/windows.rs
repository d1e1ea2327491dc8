//! Token windows: the shape in which text enters the engine.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;

use super::checkpoint::read_header;
use super::error::{EngineError, Result};

/// `[n_windows, seq_len]` token ids, row by row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenWindows {
    ids: Vec<u32>,
    seq_len: usize,
}

impl TokenWindows {
    /// Takes `ids` as rows of `seq_len`; there must be at least one whole row and no rest.
    pub fn new(ids: Vec<u32>, seq_len: usize) -> Result<Self> {
        if seq_len < 2 || ids.is_empty() || !ids.len().is_multiple_of(seq_len) {
            let n = ids.len();
            return Err(EngineError::InvalidWindows(format!(
                "{n} token ids do not make whole windows of {seq_len} tokens (at least 2 each)"
            )));
        }
        Ok(Self { ids, seq_len })
    }

    /// Reads the tensor `input_ids` `[n_windows, seq_len]` (integers of 32 or 64 bits) of a safetensors file.
    pub fn read(path: &Path) -> Result<Self> {
        let invalid =
            |reason: String| EngineError::InvalidWindows(format!("{}: {reason}", path.display()));
        let mut file = File::open(path).map_err(EngineError::io("open", path))?;
        let header = read_header(&mut file, path)?;
        let entry = header
            .get("input_ids")
            .ok_or_else(|| invalid("there is no tensor \"input_ids\"".to_owned()))?;
        let &[_, seq_len] = entry.shape.as_slice() else {
            return Err(invalid(format!(
                "input_ids has shape {:?}, expected [n_windows, seq_len]",
                entry.shape
            )));
        };
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(entry.offset))
            .and_then(|_| file.take(entry.len).read_to_end(&mut bytes))
            .map_err(EngineError::io("read", path))?;
        let ids: Option<Vec<u32>> = match entry.dtype.as_str() {
            "I64" | "U64" => bytes
                .as_chunks()
                .0
                .iter()
                .map(|&b| u32::try_from(i64::from_le_bytes(b)).ok())
                .collect(),
            "I32" | "U32" => bytes
                .as_chunks()
                .0
                .iter()
                .map(|&b| u32::try_from(i32::from_le_bytes(b)).ok())
                .collect(),
            dtype => {
                return Err(invalid(format!(
                    "input_ids has dtype {dtype}, expected integers of 32 or 64 bits"
                )));
            }
        };
        Self::new(
            ids.ok_or_else(|| invalid("a token id is negative or too large".to_owned()))?,
            seq_len,
        )
    }

    /// All ids, row by row.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Tokens per window.
    pub fn seq_len(&self) -> usize {
        self.seq_len
    }

    /// Number of windows.
    pub fn len(&self) -> usize {
        self.ids.len() / self.seq_len
    }

    /// Always false: there is at least one window.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Number of tokens.
    pub fn n_tokens(&self) -> usize {
        self.ids.len()
    }

    /// Consecutive batches of whole windows of about [`BATCH_TOKENS`] tokens.
    ///
    /// The cut depends on `seq_len` alone, so that results do not depend on the machine.
    pub(crate) fn batches(&self) -> impl Iterator<Item = &[u32]> {
        self.ids
            .chunks(windows_per_batch(self.seq_len) * self.seq_len)
    }
}

/// Tokens that go through a block together: enough to amortise the packing of weights, few enough to stay in cache.
pub const BATCH_TOKENS: usize = 2048;

fn windows_per_batch(seq_len: usize) -> usize {
    (BATCH_TOKENS / seq_len).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_do_not_fill_windows_are_refused() {
        assert!(TokenWindows::new(vec![1; 7], 3).is_err());
        assert!(TokenWindows::new(Vec::new(), 3).is_err());
        assert!(TokenWindows::new(vec![1; 6], 1).is_err());
    }

    #[test]
    fn batches_hold_whole_windows_and_every_token_once() {
        let windows = TokenWindows::new((0..9 * 500).collect(), 500).unwrap();
        let lengths: Vec<usize> = windows.batches().map(<[u32]>::len).collect();
        assert_eq!(lengths, [2000, 2000, 500]);
    }
}
