//! Saves the states of a pass while it goes on: on a thread of its own, one after the other.

use std::thread::{Builder, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use candle_core::Tensor;

use super::{ResumeState, SavedState, changes};
use crate::checkpoint::PrunedCopy;
use crate::error::{EngineError, Result};
use crate::model::Decoder;
use crate::observer::Observer;
use crate::recipe::LinearOutcome;

/// How much longer than the last write took the pass goes on until the next one: so writing takes 5 % of its time at most.
const TIMES_OF_A_WRITE: u32 = 20;

/// Writes states beside the pass.
///
/// A state holds the inputs of a block. It is written while that block observes them, and [`Saver::finish`] is called
/// before its outputs take their place: they are in memory once.
pub(crate) struct Saver<'scope, 'env> {
    threads: &'scope Scope<'scope, 'env>,
    state: &'scope ResumeState,
    decoder: &'scope Decoder<'scope>,
    copy: &'scope PrunedCopy,
    /// Digests of the changes of the first blocks, where they are kept.
    changes: Vec<String>,
    schedule: WriteSchedule,
    under_way: Option<ScopedJoinHandle<'scope, Result<Written>>>,
}

/// A pass before one of its blocks.
pub(crate) struct Snapshot<'a> {
    pub(crate) next_block: usize,
    /// Its inputs.
    pub(crate) batches: &'a [Tensor],
    /// Of the linears before it.
    pub(crate) outcomes: &'a [LinearOutcome],
    /// Zeros of each block, where they are shared.
    pub(crate) zeros: Option<&'a [u64]>,
}

struct Written {
    changes: Vec<String>,
    saved: Option<SavedState>,
    began: Instant,
    ended: Instant,
}

impl<'scope, 'env> Saver<'scope, 'env> {
    /// `changes`: what was kept already.
    pub(crate) fn new(
        threads: &'scope Scope<'scope, 'env>,
        state: &'scope ResumeState,
        decoder: &'scope Decoder<'scope>,
        copy: &'scope PrunedCopy,
        changes: Vec<String>,
    ) -> Self {
        Self {
            threads,
            state,
            decoder,
            copy,
            changes,
            schedule: WriteSchedule::default(),
            under_way: None,
        }
    }

    /// Begins to save if it is time, and before the last block: what comes after the pass may fail as well. With
    /// `is_awaited` the state is on disk when this returns.
    pub(crate) fn block_done(
        &mut self,
        snapshot: &Snapshot<'_>,
        is_awaited: bool,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let is_last = snapshot.next_block + 1 == self.decoder.plan().blocks.len();
        if is_awaited || is_last || self.schedule.is_due(Instant::now()) {
            self.begin(snapshot)?;
        }
        if is_awaited {
            self.finish(observer)?;
        }
        Ok(())
    }

    fn begin(&mut self, snapshot: &Snapshot<'_>) -> Result<()> {
        let (state, decoder, copy) = (self.state, self.decoder, self.copy);
        let (next_block, outcomes) = (snapshot.next_block, snapshot.outcomes.to_vec());
        let batches = snapshot.batches.to_vec();
        let zeros = snapshot.zeros.map(<[u64]>::to_vec);
        let mut digests = self.changes.clone();
        let write = move || {
            let began = Instant::now();
            // The pruned tensors before the state that speaks of them.
            copy.sync()?;
            if let Some(kind) = state.changes {
                for block in digests.len()..next_block {
                    digests.push(changes::keep(&state.dir, kind, block, decoder, copy)?);
                }
            }
            let saved = state.save(
                &Snapshot {
                    next_block,
                    batches: &batches,
                    outcomes: &outcomes,
                    zeros: zeros.as_deref(),
                },
                &digests,
            )?;
            Ok(Written {
                changes: digests,
                saved,
                began,
                ended: Instant::now(),
            })
        };
        let thread = Builder::new().name("resume-state".to_owned());
        let thread = thread.spawn_scoped(self.threads, write);
        self.under_way = Some(thread.map_err(EngineError::io("write", &self.state.dir))?);
        Ok(())
    }

    /// Waits until what was begun is on disk.
    pub(crate) fn finish(&mut self, observer: &mut dyn Observer) -> Result<()> {
        let Some(thread) = self.under_way.take() else {
            return Ok(());
        };
        let written = thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        self.schedule.wrote(written.began, written.ended);
        self.changes = written.changes;
        if let Some(saved) = written.saved {
            observer.saved(saved);
        }
        Ok(())
    }
}

/// When the next state is due.
#[derive(Debug, Default)]
struct WriteSchedule(Option<Instant>);

impl WriteSchedule {
    fn wrote(&mut self, began: Instant, ended: Instant) {
        let took: Duration = ended - began;
        self.0 = Some(ended + took * TIMES_OF_A_WRITE);
    }

    fn is_due(&self, now: Instant) -> bool {
        self.0.is_none_or(|due| due <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_state_is_due_at_once_and_the_next_after_twenty_times_its_writing() {
        let began = Instant::now();
        let second = |n| began + Duration::from_secs(n);
        let mut schedule = WriteSchedule::default();
        assert!(schedule.is_due(began));
        schedule.wrote(began, second(2));
        assert!(!schedule.is_due(second(41)));
        assert!(schedule.is_due(second(42)));
        schedule.wrote(second(42), second(43));
        assert!(!schedule.is_due(second(62)));
        assert!(schedule.is_due(second(63)));
    }
}
