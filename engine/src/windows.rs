//! Token windows: the shape in which text enters the engine.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;

use super::checkpoint::{TensorEntry, read_header};
use super::error::{EngineError, Result};

/// The tensor of token ids in a file of windows.
const IDS: &str = "input_ids";
/// The tensor that tells tokens from padding.
const MASK: &str = "attention_mask";

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

    /// Reads the tensor `input_ids` `[n_windows, seq_len]` (integers of 32 or 64 bits) of a safetensors file. A mask beside it
    /// must leave no token out, and other tensors are refused: they would mean other windows.
    pub fn read(path: &Path) -> Result<Self> {
        let invalid =
            |reason: String| EngineError::InvalidWindows(format!("{}: {reason}", path.display()));
        let mut file = File::open(path).map_err(EngineError::io("open", path))?;
        let header = read_header(&mut file, path)?;
        let other = header
            .keys()
            .find(|name| ![IDS, MASK].contains(&name.as_str()));
        if let Some(name) = other {
            return Err(invalid(format!(
                "tensor {name:?} is not read, expected {IDS:?}"
            )));
        }
        let entry = header
            .get(IDS)
            .ok_or_else(|| invalid(format!("there is no tensor {IDS:?}")))?;
        let &[_, seq_len] = entry.shape.as_slice() else {
            return Err(invalid(format!(
                "{IDS} has shape {:?}, expected [n_windows, seq_len]",
                entry.shape
            )));
        };
        let mut read = |entry: &TensorEntry| -> Result<Vec<u8>> {
            let mut bytes = Vec::new();
            file.seek(SeekFrom::Start(entry.offset))
                .and_then(|_| (&mut file).take(entry.len).read_to_end(&mut bytes))
                .map_err(EngineError::io("read", path))?;
            Ok(bytes)
        };
        if let Some(mask) = header.get(MASK) {
            let padding = count_padding(mask, &read(mask)?);
            if mask.shape != entry.shape || padding > 0 {
                let (tokens, shape) = (entry.elements(), &mask.shape);
                return Err(invalid(format!(
                    "{MASK} of shape {shape:?} leaves {padding} of {tokens} tokens out, expected windows without padding"
                )));
            }
        }
        let bytes = read(entry)?;
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
                    "{IDS} has dtype {dtype}, expected integers of 32 or 64 bits"
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

/// Elements of a mask that are zero, in any dtype.
fn count_padding(mask: &TensorEntry, bytes: &[u8]) -> usize {
    let width = mask.len / mask.elements().max(1);
    let width = usize::try_from(width).unwrap_or(1).max(1);
    let elements = bytes.chunks(width);
    elements
        .filter(|element| element.iter().all(|&b| b == 0))
        .count()
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

    /// A file with two windows of two tokens, and another tensor of this name.
    fn with(name: &str, dtype: &str, bytes: &[u8]) -> Result<TokenWindows> {
        let end = 16 + bytes.len();
        let header = format!(
            r#"{{"input_ids":{{"dtype":"I32","shape":[2,2],"data_offsets":[0,16]}},"{name}":{{"dtype":"{dtype}","shape":[2,2],"data_offsets":[16,{end}]}}}}"#
        );
        let ids: Vec<u8> = [1u32, 2, 3, 4]
            .iter()
            .flat_map(|id| id.to_le_bytes())
            .collect();
        let length = (header.len() as u64).to_le_bytes();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ids.safetensors");
        std::fs::write(
            &path,
            [&length[..], header.as_bytes(), &ids, bytes].concat(),
        )
        .unwrap();
        TokenWindows::read(&path)
    }

    #[test]
    fn windows_with_padding_are_refused_in_every_dtype_of_the_mask() {
        for (dtype, one) in [
            ("I64", &1u64.to_le_bytes()[..]),
            ("F32", &1f32.to_le_bytes()),
            ("BOOL", &[1]),
        ] {
            let zero = vec![0; one.len()];
            assert!(with(MASK, dtype, &one.repeat(4)).is_ok(), "{dtype}");
            let padded = with(MASK, dtype, &[one, one, one, &zero].concat());
            let error = padded.unwrap_err().to_string();
            assert!(error.contains("1 of 4 tokens"), "{error}");
        }
        let other = with("position_ids", "U8", &[0, 1, 0, 1]).unwrap_err();
        assert!(other.to_string().contains("position_ids"), "{other}");
    }

    #[test]
    fn batches_hold_whole_windows_and_every_token_once() {
        let windows = TokenWindows::new((0..9 * 500).collect(), 500).unwrap();
        let lengths: Vec<usize> = windows.batches().map(<[u32]>::len).collect();
        assert_eq!(lengths, [2000, 2000, 500]);
    }
}
