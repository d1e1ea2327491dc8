//! Points at which a test holds an attempt, so that no test depends on how fast the machine is.
//!
//! An attempt passes a point named after each phase that it begins (`pruning`) and each block that it has finished
//! (`block-3`: three blocks are done). Where a file of that name lies in the directory `gates` of the
//! home, the attempt says that it has arrived (`block-3.arrived`) and waits for the lock of the file. Nobody but a test
//! makes such files.

use std::fs::File;
use std::path::{Path, PathBuf};

/// The directory of gates within the home.
const DIRECTORY: &str = "gates";

/// The gates of one home.
#[derive(Debug)]
pub(super) struct Gates(PathBuf);

/// The point after so many blocks.
pub(super) fn of_block(blocks: usize) -> String {
    format!("block-{blocks}")
}

impl Gates {
    /// Those of the home that has this scratch directory (`HOME/scratch/JOB`).
    pub(super) fn of_scratch(scratch: &Path) -> Self {
        let home = scratch.ancestors().nth(2).unwrap_or(scratch);
        Self(home.join(DIRECTORY))
    }

    /// Whether there is a gate at `point`: what a test finds behind it must not depend on time.
    pub(super) fn stands_at(&self, point: &str) -> bool {
        self.0.join(point).try_exists().unwrap_or(false)
    }

    /// Waits while the gate at `point` is locked; returns at once where there is none.
    pub(super) fn pass(&self, point: &str) {
        let gate = self.0.join(point);
        let Ok(lock) = File::open(&gate) else {
            return;
        };
        let arrived = gate.with_extension("arrived");
        // A test that does not see it fails by itself.
        File::create(arrived).and_then(|_| lock.lock_shared()).ok();
    }
}
