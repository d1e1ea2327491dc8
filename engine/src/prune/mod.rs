//! The block loop: observe, prune, forward again.

mod paired;
mod propagation;

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
use crate::resume::{Loaded, Recorder, ResumeState};
use crate::statistic::{BlockStatistics, InputStatistics, Statistic};
use crate::windows::TokenWindows;

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
/// Blocks are observed as the recipe's [`Propagation`] says, if it needs to know inputs at all. The last block's output
/// is not computed.
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
        pass.with_calibration(observer)?
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
    fn with_calibration(&self, observer: &mut dyn Observer) -> Result<Vec<LinearOutcome>> {
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
            mut recorder,
        } = self.start(windows, observer)?;
        let mut meter = PruneMeter::new(windows, blocks, first);
        for index in first..blocks {
            let mut work = BlockWork {
                pass: self,
                block: decoder.block(index)?,
                is_last: index + 1 == blocks,
                recorder: recorder.as_mut(),
                outcomes: &mut outcomes,
            };
            let mut pass = BlockPass {
                context: &context,
                n_windows: windows.len(),
                meter: &mut meter,
                observer: &mut *observer,
            };
            work.begin(index)?;
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
                self.save(index + 1, &batches, &outcomes, recorder.as_mut(), observer)?;
                if observer.should_pause() {
                    return Err(EngineError::Stopped);
                }
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
    fn start(&self, windows: &TokenWindows, observer: &mut dyn Observer) -> Result<Start<'_>> {
        let hidden = self.decoder.plan().hidden;
        let streams = self.options.recipe.propagation.streams();
        let lengths = (0..streams).flat_map(|_| windows.batches().map(|ids| ids.len() * hidden));
        let state = self.options.resume_state;
        let Some(Loaded {
            next_block,
            changes,
            outcomes,
            batches,
        }) = state.and_then(|state| state.load(lengths))
        else {
            let recorder = state.and_then(|state| state.recorder(0, Vec::new()));
            // The streams begin as the same.
            let batches = embedded(self.decoder, windows)?;
            return Ok(Start {
                batches: std::iter::repeat_n(batches, streams).flatten().collect(),
                first: 0,
                outcomes: Vec::new(),
                recorder,
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
            recorder: state.and_then(|state| state.recorder(next_block, changes)),
        })
    }

    fn save(
        &self,
        next_block: usize,
        batches: &[Tensor],
        outcomes: &[LinearOutcome],
        recorder: Option<&mut Recorder<'_>>,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let Some(state) = self.options.resume_state else {
            return Ok(());
        };
        self.target.sync()?;
        let changes = recorder.map(Recorder::end_block).transpose()?;
        if let Some(saved) = state.save(next_block, batches, outcomes, changes)? {
            observer.saved(saved);
        }
        Ok(())
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

/// What it takes to prune one block.
pub(super) struct BlockWork<'w, 'a> {
    pass: &'w Pass<'a>,
    /// Its pruned linears stand in place of the dense ones, unless the pass goes on densely.
    pub(super) block: Block<'w>,
    /// Whether its outputs are needed by no other.
    pub(super) is_last: bool,
    recorder: Option<&'w mut Recorder<'a>>,
    outcomes: &'w mut Vec<LinearOutcome>,
}

impl BlockWork<'_, '_> {
    fn begin(&mut self, index: usize) -> Result<()> {
        match &mut self.recorder {
            Some(recorder) if !self.is_last => recorder.begin_block(index),
            _ => Ok(()),
        }
    }

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
        if !self.is_last {
            pass.forward(&self.block, batches)?;
        }
        Ok(seen)
    }

    /// Ends the collection of an input, and prunes the linears that it feeds.
    pub(super) fn prune(&mut self, input: InputId, seen: &mut BlockStatistics) -> Result<()> {
        seen.finish(self.block.plan(), input)?;
        self.prune_fed(input, seen.of(input))
    }

    fn prune_fed(&mut self, input: InputId, seen: &InputStatistics) -> Result<()> {
        let plan = self.block.plan();
        for id in plan.fed_by(input) {
            let weights = self.block.weights(id)?;
            let pruned = self.pass.prune_linear(plan.linear(id), weights, seen)?;
            if let Some(recorder) = &mut self.recorder {
                recorder.add(&pruned.mask, &pruned.weights)?;
            }
            self.outcomes.extend(pruned.outcome);
            if self.pass.options.recipe.propagation != Propagation::Dense {
                self.block.replace(id, pruned.weights)?;
            }
        }
        Ok(())
    }
}

/// What a pass begins or goes on with.
struct Start<'a> {
    /// Inputs of the next block, stream after stream.
    batches: Vec<Tensor>,
    /// Its number.
    first: usize,
    /// Of the linears before it.
    outcomes: Vec<LinearOutcome>,
    recorder: Option<Recorder<'a>>,
}
