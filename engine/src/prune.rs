//! The block loop: observe, prune, forward again.

use candle_core::Tensor;

use super::checkpoint::{PrunedCopy, Weights};
use super::error::{EngineError, Result};
use super::model::{BlockContext, Decoder, LinearId, LinearSpec};
use super::observe::{BlockPass, PruneMeter, embedded};
use super::observer::{Observer, PassProgress};
use super::ops::TokenLayout;
use super::pattern::Goal;
use super::recipe::{LinearOutcome, Pruned, Recipe};
use super::resume::{Loaded, Recorder, ResumeState};
use super::statistic::InputStatistics;
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
            let is_last = index + 1 == blocks;
            let mut block = decoder.block(index)?;
            let plan = block.plan();
            let mut pass = BlockPass {
                context: &context,
                n_windows: windows.len(),
                meter: &mut meter,
                observer: &mut *observer,
            };
            let seen = pass.observe(&block, &batches, &needs)?;
            pass.observer.observed(index, &seen);
            if let Some(recorder) = recorder.as_mut().filter(|_| !is_last) {
                recorder.begin_block(index)?;
            }
            for (id, linear) in plan.linears.iter().enumerate() {
                let weights = block.weights(LinearId(id))?;
                let pruned = self.prune_linear(linear, weights, seen.of(linear.input))?;
                if let Some(recorder) = &mut recorder {
                    recorder.add(&pruned.mask, &pruned.weights)?;
                }
                outcomes.extend(pruned.outcome);
                block.replace(LinearId(id), pruned.weights)?;
            }
            if !is_last {
                pass.forward(&block, &mut batches)?;
                drop(block);
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
        let lengths = windows.batches().map(|ids| ids.len() * hidden);
        let state = self.options.resume_state;
        let Some(Loaded {
            next_block,
            changes,
            outcomes,
            batches,
        }) = state.and_then(|state| state.load(lengths))
        else {
            let recorder = state.and_then(|state| state.recorder(0, Vec::new()));
            return Ok(Start {
                batches: embedded(self.decoder, windows)?,
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

/// What a pass begins or goes on with.
struct Start<'a> {
    /// Inputs of the next block.
    batches: Vec<Tensor>,
    /// Its number.
    first: usize,
    /// Of the linears before it.
    outcomes: Vec<LinearOutcome>,
    recorder: Option<Recorder<'a>>,
}
