//! Token windows: the shape in which text enters the engine.

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
        if seq_len < 2 || ids.is_empty() || ids.len() % seq_len != 0 {
            let n = ids.len();
            return Err(EngineError::InvalidWindows(format!(
                "{n} token ids do not make whole windows of {seq_len} tokens (at least 2 each)"
            )));
        }
        Ok(Self { ids, seq_len })
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
pub(crate) const BATCH_TOKENS: usize = 2048;

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
