//! The block loop: observe, prune, forward again.

mod measuring;
mod paired;
mod propagation;

use std::thread::{self, Scope};

use candle_core::Tensor;

pub use propagation::Propagation;

use crate::checkpoint::{PrunedCopy, Weights};
use crate::error::{EngineError, Result};
use crate::model::{Block, BlockContext, Decoder, InputId, LinearSpec};
use crate::observe::{BlockPass, PruneMeter, embedded};
use crate::observer::{Observer, PassProgress};
use crate::ops::TokenLayout;
use crate::pattern::Goal;
use crate::recipe::{LinearOutcome, Pruned, Recipe};
use crate::resume::{Loaded, ResumeState, Saver, Snapshot};
use crate::statistic::{BlockStatistics, InputStatistics, Statistic};
use crate::targets::Targets;
use crate::windows::TokenWindows;

/// What to prune by.
#[derive(Debug)]
pub struct PruneOptions<'a> {
    /// What is done to each linear.
    pub recipe: Recipe,
    /// What is asked of the linears.
    pub targets: &'a Targets,
    /// Calibration windows; a recipe that needs none does not look at them.
    pub windows: Option<&'a TokenWindows>,
    /// Where to keep the state between blocks; `None` = nowhere.
    pub resume_state: Option<&'a ResumeState>,
}

/// Prunes every linear of every block of `decoder` into `target`, block by block.
///
/// Blocks are observed as the recipe's [`Propagation`] says, if it needs to know inputs at all. The last block's output
/// is not computed.
///
/// Returns the outcome of each linear in the order of the plan, where the recipe reads calibration windows.
pub fn prune(
    decoder: &Decoder<'_>,
    target: &PrunedCopy,
    options: &PruneOptions<'_>,
    observer: &mut dyn Observer,
) -> Result<Vec<LinearOutcome>> {
    options.targets.check(decoder.plan())?;
    let pass = Pass {
        decoder,
        target,
        options,
    };
    if options.targets.needs_calibration() && options.windows.is_none() {
        let allocation = options.targets.allocation.kind;
        let detail = format!("{allocation} needs calibration windows");
        return Err(EngineError::InvalidWindows(detail));
    }
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
            zeros,
            measured_tokens,
        } = self.start(windows, observer)?;
        let goals = self
            .options
            .targets
            .goals(decoder.plan(), zeros.as_deref())?;
        let state = self.options.resume_state;
        let mut saver =
            state.map(|state| Saver::new(threads, state, decoder, self.target, changes));
        let mut meter = PruneMeter::new(windows, blocks, first).after(measured_tokens);
        for (index, goals) in goals.iter().enumerate().skip(first) {
            let mut work = BlockWork {
                pass: self,
                block: decoder.block(index)?,
                goals,
                is_last: index + 1 == blocks,
                outcomes: &mut outcomes,
                saver: saver.as_mut(),
            };
            let mut pass = BlockPass {
                context: &context,
                n_windows: windows.len(),
                seq_len: windows.seq_len(),
                meter: &mut meter,
                observer: &mut *observer,
            };
            let seen = match recipe.propagation {
                Propagation::Paired => {
                    let hidden = decoder.plan().hidden;
                    paired::prune_block(&mut work, &mut pass, &mut batches, &needs, hidden)?
                }
                Propagation::Pruned | Propagation::Dense => {
                    work.prune_observed(&mut pass, &mut batches, &needs)?
                }
            };
            let is_last = work.is_last;
            observer.observed(index, &seen);
            drop(seen);
            if !is_last {
                let snapshot = Snapshot {
                    next_block: index + 1,
                    batches: &batches,
                    outcomes: &outcomes,
                    zeros: zeros.as_deref(),
                };
                save_or_pause(saver.as_mut(), &snapshot, observer)?;
            }
            meter.block_done(index, observer);
        }
        Ok(outcomes)
    }

    fn without_calibration(&self, observer: &mut dyn Observer) -> Result<()> {
        let plan = self.decoder.plan();
        let zeros = match self.options.windows {
            Some(windows) => self.zeros_of_blocks(windows, observer)?,
            None => self.options.targets.shared(plan, &[])?,
        };
        let goals = self.options.targets.goals(plan, zeros.as_deref())?;
        let blocks = &plan.blocks;
        for (index, block) in blocks.iter().enumerate() {
            if observer.should_stop() || observer.should_pause() {
                return Err(EngineError::Stopped);
            }
            for (linear, goal) in block.linears.iter().zip(&goals[index]) {
                if let Some(goal) = *goal {
                    let weights = self.decoder.checkpoint().read(&linear.weight())?;
                    self.prune_linear(linear, weights, &InputStatistics::default(), goal)?;
                }
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

    /// Whether what was saved is of this model and allocation.
    fn fits(&self, loaded: &Loaded) -> bool {
        let blocks = self.decoder.plan().blocks.len();
        let zeros = loaded.zeros.as_ref().map(Vec::len);
        let is_uniform = self.options.targets.allocation.is_uniform();
        (1..blocks).contains(&loaded.next_block) && zeros == (!is_uniform).then_some(blocks)
    }

    /// What was saved, or the first block's inputs.
    fn start(&self, windows: &TokenWindows, observer: &mut dyn Observer) -> Result<Start> {
        let hidden = self.decoder.plan().hidden;
        let streams = self.options.recipe.propagation.streams();
        let lengths = (0..streams).flat_map(|_| windows.batches().map(|ids| ids.len() * hidden));
        let state = self.options.resume_state;
        let Some(Loaded {
            next_block,
            changes,
            outcomes,
            zeros,
            batches,
        }) = state
            .and_then(|state| state.load(lengths))
            .filter(|loaded| self.fits(loaded))
        else {
            let zeros = self.zeros_of_blocks(windows, observer)?;
            let measures = self.options.targets.needs_calibration();
            // The streams begin as the same.
            let batches = embedded(self.decoder, windows)?;
            return Ok(Start {
                batches: std::iter::repeat_n(batches, streams).flatten().collect(),
                first: 0,
                outcomes: Vec::new(),
                changes: Vec::new(),
                zeros,
                measured_tokens: if measures {
                    self.tokens_of_pass(windows)
                } else {
                    0
                },
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
            zeros,
            measured_tokens: 0,
        })
    }

    /// Prunes a linear's weights in the file's own dtype, and writes them.
    fn prune_linear(
        &self,
        linear: &LinearSpec,
        weights: Weights,
        seen: &InputStatistics,
        goal: Goal,
    ) -> Result<Pruned> {
        let pruned = self.options.recipe.prune(weights, linear, seen, goal)?;
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

/// What it takes to prune one block.
pub(super) struct BlockWork<'w, 'scope, 'env> {
    pass: &'w Pass<'w>,
    /// Its pruned linears stand in place of the dense ones, unless the pass goes on densely.
    pub(super) block: Block<'w>,
    goals: &'w [Option<Goal>],
    /// Whether its outputs are needed by no other.
    pub(super) is_last: bool,
    outcomes: &'w mut Vec<LinearOutcome>,
    saver: Option<&'w mut Saver<'scope, 'env>>,
}

impl BlockWork<'_, '_, '_> {
    /// Observes the dense block, prunes its linears, and puts its outputs in place of its inputs.
    fn prune_observed(
        &mut self,
        pass: &mut BlockPass<'_>,
        batches: &mut [Tensor],
        needs: &[Statistic],
    ) -> Result<BlockStatistics> {
        let seen = pass.observe(&self.block, batches, needs)?;
        for input in self.block.plan().input_ids() {
            self.prune_fed(input, seen.of(input))?;
        }
        self.inputs_go(pass.observer)?;
        if !self.is_last {
            pass.forward(&self.block, batches)?;
        }
        Ok(seen)
    }

    /// Waits until the block's inputs are saved, if they are being: from here on others take their place.
    pub(super) fn inputs_go(&mut self, observer: &mut dyn Observer) -> Result<()> {
        match &mut self.saver {
            Some(saver) => saver.finish(observer),
            None => Ok(()),
        }
    }

    /// Ends the collection of an input, and prunes the linears that it feeds.
    pub(super) fn prune(&mut self, input: InputId, seen: &mut BlockStatistics) -> Result<()> {
        seen.finish(self.block.plan(), input)?;
        self.prune_fed(input, seen.of(input))
    }

    fn prune_fed(&mut self, input: InputId, seen: &InputStatistics) -> Result<()> {
        let plan = self.block.plan();
        let recipe = self.pass.options.recipe;
        for id in plan.fed_by(input) {
            let Some(goal) = self.goals[id.0] else {
                self.outcomes.push(recipe.outcome_of_dense(seen));
                continue;
            };
            let weights = self.block.weights(id)?;
            let linear = plan.linear(id);
            let pruned = self.pass.prune_linear(linear, weights, seen, goal)?;
            self.outcomes.push(pruned.outcome);
            if recipe.propagation != Propagation::Dense {
                self.block.replace(id, pruned.weights)?;
            }
        }
        Ok(())
    }
}

/// What a pass begins or goes on with.
struct Start {
    /// Inputs of the next block, stream after stream.
    batches: Vec<Tensor>,
    /// Its number.
    first: usize,
    /// Of the linears before it.
    outcomes: Vec<LinearOutcome>,
    /// Digests of what was kept of the changes of the blocks before it.
    changes: Vec<String>,
    /// Of each block, where they are shared.
    zeros: Option<Vec<u64>>,
    /// Tokens that passed the dense model before.
    measured_tokens: u64,
}

#[cfg(test)]
mod tests;
