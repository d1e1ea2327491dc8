//! The pass over the dense model that says how zeros are shared among blocks.

use super::Pass;
use crate::error::Result;
use crate::observe::PruneMeter;
use crate::observer::{Observer, PassProgress};
use crate::windows::TokenWindows;

impl Pass<'_> {
    /// The zeros of each block, where they are shared: after a pass over the dense model if they go by it.
    pub(super) fn zeros_of_blocks(
        &self,
        windows: &TokenWindows,
        observer: &mut dyn Observer,
    ) -> Result<Option<Vec<u64>>> {
        let (decoder, targets) = (self.decoder, self.options.targets);
        let mut measured = Vec::new();
        if targets.needs_calibration() {
            let mut observer = Measuring {
                more_tokens: if self.options.recipe.needs_calibration() {
                    self.tokens_of_pass(windows)
                } else {
                    0
                },
                observer,
            };
            measured = targets
                .allocation
                .measure(decoder, windows, &mut observer)?;
        }
        targets.shared(decoder.plan(), &measured)
    }

    /// Tokens that a pass counts in all.
    pub(super) fn tokens_of_pass(&self, windows: &TokenWindows) -> u64 {
        let blocks = self.decoder.plan().blocks.len();
        PruneMeter::new(windows, blocks, 0).total_tokens()
    }
}

/// Tells the progress of a pass over the dense model as a part of the whole.
struct Measuring<'a> {
    /// That are still to be counted when it is done.
    more_tokens: u64,
    observer: &'a mut dyn Observer,
}

impl Observer for Measuring<'_> {
    fn progress(&mut self, progress: PassProgress) {
        self.observer.progress(PassProgress {
            blocks: 0,
            total_tokens: progress.total_tokens + self.more_tokens,
            ..progress
        });
    }

    fn should_stop(&self) -> bool {
        self.observer.should_stop() || self.observer.should_pause()
    }
}
