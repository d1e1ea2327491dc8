//! How a job tells how far it is.

use crate::domain::job::progress::{Phase, Step};
use crate::domain::spec::PinnedCommit;
use crate::engine::{Observer, PassProgress, SavedState};

/// Hears of a job's progress.
pub trait Listener: Send {
    /// A phase has begun.
    fn phase(&mut self, phase: Phase);

    /// The current phase moved on.
    fn progress(&mut self, step: Step);

    /// The job goes on from a saved state.
    fn resumed(&mut self, block: usize, blocks: usize);

    /// The commit of a hub model was found.
    fn pinned(&mut self, _commit: PinnedCommit) {}

    /// A block is pruned; `blocks` are done.
    fn block_done(&mut self, _blocks: usize) {}

    /// Asked when a block is pruned; true has the state saved before the job goes on. `blocks` are done.
    fn needs_state(&self, _blocks: usize) -> bool {
        false
    }

    /// Asked at checkpoints; true stops the job there.
    fn should_pause(&self) -> bool {
        false
    }

    /// A state is on disk that can be carried to another machine.
    fn saved(&mut self, _state: SavedState) {}

    /// Asked often; true stops the job.
    fn should_stop(&self) -> bool {
        false
    }
}

/// Hears nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct SilentListener;

impl Listener for SilentListener {
    fn phase(&mut self, _phase: Phase) {}

    fn progress(&mut self, _step: Step) {}

    fn resumed(&mut self, _block: usize, _blocks: usize) {}
}

/// Passes the progress of the block loop on.
pub(super) struct EngineObserver<'a>(pub(super) &'a mut dyn Listener);

impl Observer for EngineObserver<'_> {
    fn progress(&mut self, progress: PassProgress) {
        let without_tokens = progress.total_tokens == 0;
        let (finished, total, unit) = if without_tokens {
            (
                progress.blocks as u64,
                progress.total_blocks as u64,
                "blocks",
            )
        } else {
            (progress.tokens, progress.total_tokens, "tokens")
        };
        let name = if without_tokens {
            "blocks".to_owned()
        } else {
            format!("blocks {}/{}", progress.blocks, progress.total_blocks)
        };
        self.0.progress(Step::new(name, unit, finished, total));
    }

    fn resumed(&mut self, block: usize, total_blocks: usize) {
        self.0.resumed(block, total_blocks);
    }

    fn block_done(&mut self, blocks: usize) {
        self.0.block_done(blocks);
    }

    fn should_pause(&self) -> bool {
        self.0.should_pause()
    }

    fn needs_state(&self, blocks: usize) -> bool {
        self.0.needs_state(blocks)
    }

    fn saved(&mut self, state: SavedState) {
        self.0.saved(state);
    }

    fn should_stop(&self) -> bool {
        self.0.should_stop()
    }
}
