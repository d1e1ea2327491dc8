//! What is collected of the inputs of linears while calibration windows pass.

mod block;
mod gram;
mod pairing;
mod sum_of_squares;
mod window_moments;

use candle_core::Tensor;

pub use block::BlockStatistics;
pub use gram::Gram;
pub(crate) use pairing::Pairing;
pub use sum_of_squares::SumOfSquares;
pub use window_moments::WindowMoments;

use super::error::{EngineError, Result};

/// Something that can be collected of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Statistic {
    /// Σx² of each feature.
    SumOfSquares,
    /// Σ x xᵀ.
    Gram,
    /// Σx and the variance of each window.
    WindowMoments,
}

/// The statistics of one input of linears; only those that were asked for are there.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct InputStatistics {
    sum_of_squares: Option<SumOfSquares>,
    gram: Option<Gram>,
    window_moments: Option<WindowMoments>,
    pairing: Option<Pairing>,
    n_tokens: u64,
}

impl InputStatistics {
    /// Collects `wanted` of an input with `d_in` features over `n_windows` windows.
    pub fn collecting(wanted: &[Statistic], d_in: usize, n_windows: usize) -> Self {
        let is_wanted = |statistic| wanted.contains(&statistic);
        Self {
            sum_of_squares: is_wanted(Statistic::SumOfSquares)
                .then(|| SumOfSquares::new(d_in, n_windows)),
            gram: is_wanted(Statistic::Gram).then(|| Gram::new(d_in)),
            window_moments: is_wanted(Statistic::WindowMoments)
                .then(|| WindowMoments::new(d_in, n_windows)),
            pairing: None,
            n_tokens: 0,
        }
    }

    /// In windows of so many tokens; without this every batch is one window.
    #[must_use]
    pub fn in_windows_of(mut self, seq_len: usize) -> Self {
        if let Some(moments) = &mut self.window_moments {
            moments.seq_len = Some(seq_len);
        }
        self
    }

    /// Pairs the input with that of the dense model, too.
    pub(crate) fn paired(self, pairing: Pairing) -> Self {
        Self {
            pairing: Some(pairing),
            ..self
        }
    }

    /// Adds the tokens of an input in the pruned model, in the dense one, and how far that one is ahead: these rows of a
    /// batch, or all.
    pub(crate) fn add_pair(
        &mut self,
        pruned: &Tensor,
        dense: &Tensor,
        ahead: Option<&Tensor>,
        rows: Option<&[u32]>,
    ) -> Result<()> {
        self.add_rows(pruned, rows)?;
        match &mut self.pairing {
            Some(pairing) => pairing.add(dense, pruned, ahead),
            None => Ok(()),
        }
    }

    /// How the input is paired with that of the dense model, if it is.
    pub(crate) fn pairing(&self) -> Option<&Pairing> {
        self.pairing.as_ref()
    }

    /// Adds the tokens of `x`, `[n_tokens, d_in]`, which are a whole batch.
    pub fn add(&mut self, x: &Tensor) -> Result<()> {
        self.add_rows(x, None)
    }

    /// Adds the tokens of `x`, `[n, d_in]`: these rows of a batch, ascending, or all.
    pub fn add_rows(&mut self, x: &Tensor, rows: Option<&[u32]>) -> Result<()> {
        self.n_tokens += x.dim(0)? as u64;
        if let Some(sums) = &mut self.sum_of_squares {
            sums.add(x)?;
        }
        if let Some(gram) = &mut self.gram {
            gram.add(x)?;
        }
        if let Some(moments) = &mut self.window_moments {
            moments.add(x, rows)?;
        }
        Ok(())
    }

    /// Tokens that were added. An expert may see none.
    pub fn n_tokens(&self) -> u64 {
        self.n_tokens
    }

    /// Ends the collection, after all windows.
    pub fn finish(&mut self) {
        if let Some(gram) = &mut self.gram {
            gram.finish();
            if let Some(pairing) = &mut self.pairing {
                pairing.finish(gram);
            }
        }
    }

    /// Whether everything collected is finite. A NaN stays in a sum, so one look after all windows is enough.
    pub(crate) fn is_finite(&self) -> bool {
        let sums = self.sum_of_squares.as_ref();
        sums.is_none_or(SumOfSquares::is_finite)
            && self.gram.as_ref().is_none_or(Gram::is_finite)
            && self
                .window_moments
                .as_ref()
                .is_none_or(WindowMoments::is_finite)
            && self.pairing.as_ref().is_none_or(Pairing::is_finite)
    }

    /// Σx²; an error if it was not asked for.
    pub fn sum_of_squares(&self) -> Result<&SumOfSquares> {
        self.sum_of_squares
            .as_ref()
            .ok_or(EngineError::NotObserved(Statistic::SumOfSquares))
    }

    /// Σx and the variance of each window; an error if they were not asked for.
    pub fn window_moments(&self) -> Result<&WindowMoments> {
        self.window_moments
            .as_ref()
            .ok_or(EngineError::NotObserved(Statistic::WindowMoments))
    }

    /// Σ x xᵀ; an error if it was not asked for.
    pub fn gram(&self) -> Result<&Gram> {
        self.gram
            .as_ref()
            .ok_or(EngineError::NotObserved(Statistic::Gram))
    }
}
