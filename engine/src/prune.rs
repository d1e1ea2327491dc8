//! The block loop: observe, prune, forward again.

use std::thread::{self, Scope};

use candle_core::Tensor;

use super::checkpoint::{PrunedCopy, Weights};
use super::error::{EngineError, Result};
use super::model::{Block, BlockContext, Decoder, LinearId, LinearSpec};
use super::observe::{BlockPass, PruneMeter, embedded};
use super::observer::{Observer, PassProgress};
use super::ops::TokenLayout;
use super::pattern::Goal;
use super::recipe::{LinearOutcome, Pruned, Recipe};
use super::resume::{Loaded, ResumeState, Saver, Snapshot};
use super::statistic::{BlockStatistics, InputStatistics};
use super::windows::TokenWindows;

/// What to prune by.
#[derive(Debug)]
pub struct PruneOptions<'a> {
    /// What is done to each linear.
    pub recipe: Recipe,
    /// What is asked of every linear.
    pub goal: Goal,
    /// Calibration windows; a recipe that needs none does not look at them.
    pub windows: Option<&'a TokenWindows>,
    /// Where to keep the state between blocks; `None` = nowhere.
    pub resume_state: Option<&'a ResumeState>,
}

/// Prunes every linear of every block of `decoder` into `target`, block by block.
///
/// A block is observed dense on inputs that come from the pruned blocks before it (arXiv 2306.11695, algorithm 1), if
/// the recipe needs to know them. The last block's output is not computed.
///
/// Returns the outcome of each linear in the order of the plan, where the recipe needs Gram matrices.
pub fn prune(
    decoder: &Decoder<'_>,
    target: &PrunedCopy,
    options: &PruneOptions<'_>,
    observer: &mut dyn Observer,
) -> Result<Vec<LinearOutcome>> {
    decoder.plan().check_pattern(options.goal.pattern)?;
    let pass = Pass {
        decoder,
        target,
        options,
    };
    let outcomes = if options.recipe.needs_calibration() {
        thread::scope(|threads| pass.with_calibration(threads, observer))?
    } else {
        pass.without_calibration(observer)?;
        Vec::new()
    };
    target.sync()?;
    Ok(outcomes)
}

struct Pass<'a> {
    decoder: &'a Decoder<'a>,
    target: &'a PrunedCopy,
    options: &'a PruneOptions<'a>,
}

impl Pass<'_> {
    fn with_calibration<'scope>(
        &'scope self,
        threads: &'scope Scope<'scope, '_>,
        observer: &mut dyn Observer,
    ) -> Result<Vec<LinearOutcome>> {
        let (decoder, recipe) = (self.decoder, self.options.recipe);
        let windows = self.options.windows.ok_or_else(|| {
            EngineError::InvalidWindows(format!("{recipe} needs calibration windows"))
        })?;
        let needs = recipe.needs();
        let blocks = decoder.plan().blocks.len();
        let ropes = decoder.ropes(windows.seq_len())?;
        let context = BlockContext {
            ropes: &ropes,
            layout: TokenLayout::Windows(windows.seq_len()),
        };
        let Start {
            mut batches,
            first,
            mut outcomes,
            changes,
        } = self.start(windows, observer)?;
        let state = self.options.resume_state;
        let mut saver =
            state.map(|state| Saver::new(threads, state, decoder, self.target, changes));
        let mut meter = PruneMeter::new(windows, blocks, first);
        for index in first..blocks {
            let is_last = index + 1 == blocks;
            let mut block = decoder.block(index)?;
            let mut pass = BlockPass {
                context: &context,
                n_windows: windows.len(),
                meter: &mut meter,
                observer: &mut *observer,
            };
            let seen = pass.observe(&block, &batches, &needs)?;
            pass.observer.observed(index, &seen);
            outcomes.extend(self.prune_block(&mut block, &seen)?);
            if let Some(saver) = &mut saver {
                saver.finish(pass.observer)?;
            }
            if !is_last {
                pass.forward(&block, &mut batches)?;
                drop(block);
                let snapshot = Snapshot {
                    next_block: index + 1,
                    batches: &batches,
                    outcomes: &outcomes,
                };
                save_or_pause(saver.as_mut(), &snapshot, observer)?;
            }
            meter.block_done(index, observer);
        }
        Ok(outcomes)
    }

    fn without_calibration(&self, observer: &mut dyn Observer) -> Result<()> {
        let blocks = &self.decoder.plan().blocks;
        for (index, block) in blocks.iter().enumerate() {
            if observer.should_stop() || observer.should_pause() {
                return Err(EngineError::Stopped);
            }
            for linear in &block.linears {
                let weights = self.decoder.checkpoint().read(&linear.weight())?;
                self.prune_linear(linear, weights, &InputStatistics::default())?;
            }
            observer.progress(PassProgress {
                blocks: index + 1,
                total_blocks: blocks.len(),
                tokens: 0,
                total_tokens: 0,
            });
        }
        Ok(())
    }

    /// What was saved, or the first block's inputs.
    fn start(&self, windows: &TokenWindows, observer: &mut dyn Observer) -> Result<Start> {
        let hidden = self.decoder.plan().hidden;
        let lengths = windows.batches().map(|ids| ids.len() * hidden);
        let state = self.options.resume_state;
        let Some(Loaded {
            next_block,
            changes,
            outcomes,
            batches,
        }) = state.and_then(|state| state.load(lengths))
        else {
            return Ok(Start {
                batches: embedded(self.decoder, windows)?,
                first: 0,
                outcomes: Vec::new(),
                changes: Vec::new(),
            });
        };
        observer.resumed(next_block, self.decoder.plan().blocks.len());
        let device = self.decoder.device();
        let tensors = batches.into_iter().map(|values| {
            let shape = (values.len() / hidden, hidden);
            Tensor::from_vec(values, shape, device)
        });
        Ok(Start {
            batches: tensors.collect::<candle_core::Result<_>>()?,
            first: next_block,
            outcomes,
            changes,
        })
    }

    /// Prunes the linears of a block. Returns the outcomes of those that have one.
    fn prune_block(
        &self,
        block: &mut Block<'_>,
        seen: &BlockStatistics,
    ) -> Result<Vec<LinearOutcome>> {
        let mut outcomes = Vec::new();
        for (id, linear) in block.plan().linears.iter().enumerate() {
            let weights = block.weights(LinearId(id))?;
            let pruned = self.prune_linear(linear, weights, seen.of(linear.input))?;
            outcomes.extend(pruned.outcome);
            block.replace(LinearId(id), pruned.weights)?;
        }
        Ok(outcomes)
    }

    /// Prunes a linear's weights in the file's own dtype, and writes them.
    fn prune_linear(
        &self,
        linear: &LinearSpec,
        weights: Weights,
        seen: &InputStatistics,
    ) -> Result<Pruned> {
        let PruneOptions { recipe, goal, .. } = *self.options;
        let pruned = recipe.prune(weights, linear, seen, goal)?;
        let source = self.decoder.checkpoint();
        self.target
            .overwrite(source, &linear.weight(), &pruned.weights)?;
        Ok(pruned)
    }
}

/// Saves the state where it is due or needed, and ends the pass where it shall pause.
fn save_or_pause(
    saver: Option<&mut Saver<'_, '_>>,
    snapshot: &Snapshot<'_>,
    observer: &mut dyn Observer,
) -> Result<()> {
    let is_pausing = observer.should_pause();
    if let Some(saver) = saver {
        let is_awaited = is_pausing || observer.needs_state(snapshot.next_block);
        saver.block_done(snapshot, is_awaited, observer)?;
    }
    if is_pausing {
        Err(EngineError::Stopped)
    } else {
        Ok(())
    }
}

/// What a pass begins or goes on with.
struct Start {
    /// Inputs of the next block.
    batches: Vec<Tensor>,
    /// Its number.
    first: usize,
    /// Of the linears before it.
    outcomes: Vec<LinearOutcome>,
    /// Digests of what was kept of the changes of the blocks before it.
    changes: Vec<String>,
}
