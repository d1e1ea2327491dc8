//! How the engine tells how far it is, and how it is told to stop.

use super::resume::SavedState;
use super::statistic::BlockStatistics;

/// How far a pass over the model is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PassProgress {
    /// Blocks finished.
    pub blocks: usize,
    /// Blocks in all.
    pub total_blocks: usize,
    /// Tokens forwarded through one block so far, summed over blocks and passes.
    pub tokens: u64,
    /// The same when the pass is done.
    pub total_tokens: u64,
}

/// Watches a pass over the model.
pub trait Observer {
    /// Called after every batch and every block.
    fn progress(&mut self, progress: PassProgress);

    /// Called once, when work goes on from a saved state instead of from block 0.
    fn resumed(&mut self, _block: usize, _total_blocks: usize) {}

    /// Called when a block was observed on all windows.
    fn observed(&mut self, _block: usize, _seen: &BlockStatistics) {}

    /// Called when a block is done; `blocks` are done.
    fn block_done(&mut self, _blocks: usize) {}

    /// Asked when a block is done; true ends the pass when the state is saved, as a stop would.
    fn should_pause(&self) -> bool {
        false
    }

    /// Asked when a block is done; true has the state saved before the pass goes on. `blocks` are done.
    fn needs_state(&self, _blocks: usize) -> bool {
        false
    }

    /// Called when a state is on disk that can be carried elsewhere.
    fn saved(&mut self, _state: SavedState) {}

    /// Asked between batches; true ends the pass with [`super::EngineError::Stopped`].
    fn should_stop(&self) -> bool {
        false
    }
}

/// Watches nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Observer for Silent {
    fn progress(&mut self, _progress: PassProgress) {}
}
