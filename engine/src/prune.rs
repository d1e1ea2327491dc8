//! The block loop: observe, score, prune, forward again.

use candle_core::Tensor;

use super::checkpoint::{PrunedCopy, Weights};
use super::error::{EngineError, Result};
use super::journal::{Journal, Saved};
use super::method::MethodId;
use super::model::{BlockContext, BlockPlan, Decoder, InputId, LinearId, LinearSpec};
use super::observer::{Observer, Progress};
use super::ops::TokenLayout;
use super::pattern::Goal;
use super::statistic::InputStatistics;
use super::windows::TokenWindows;
use super::zeros::Zeros;

/// What to prune by.
#[derive(Debug)]
pub struct PruneOptions<'a> {
    /// How weights are chosen.
    pub method: MethodId,
    /// What is asked of every linear.
    pub goal: Goal,
    /// Calibration windows; a method that needs none does not look at them.
    pub windows: Option<&'a TokenWindows>,
    /// Where to keep the state between blocks; `None` = nowhere.
    pub journal: Option<&'a Journal>,
}

/// Prunes every linear of every block of `decoder` into `target`, block by block.
///
/// A block is observed dense on inputs that come from the pruned blocks before it (arXiv 2306.11695, algorithm 1), if
/// the method needs to know them. The last block's output is not computed.
pub fn prune(
    decoder: &Decoder<'_>,
    target: &PrunedCopy,
    options: &PruneOptions<'_>,
    observer: &mut dyn Observer,
) -> Result<()> {
    decoder.plan().check_pattern(options.goal.pattern)?;
    let pass = Pass {
        decoder,
        target,
        options,
    };
    if options.method.needs_calibration() {
        pass.with_calibration(observer)?;
    } else {
        pass.without_calibration(observer)?;
    }
    target.sync()
}

struct Pass<'a> {
    decoder: &'a Decoder<'a>,
    target: &'a PrunedCopy,
    options: &'a PruneOptions<'a>,
}

impl Pass<'_> {
    fn with_calibration(&self, observer: &mut dyn Observer) -> Result<()> {
        let (decoder, method) = (self.decoder, self.options.method);
        let windows = self.options.windows.ok_or_else(|| {
            EngineError::InvalidWindows(format!("{method} needs calibration windows"))
        })?;
        let blocks = decoder.plan().blocks.len();
        let ropes = decoder.ropes(windows.seq_len())?;
        let context = BlockContext {
            ropes: &ropes,
            layout: TokenLayout::Windows(windows.seq_len()),
        };
        let (mut batches, first, mut kept) = self.start(windows, observer)?;
        let mut meter = Meter::new(windows, blocks, first);
        for index in first..blocks {
            let mut block = decoder.block(index)?;
            let plan = block.plan();
            let mut inputs = Inputs::new(plan, method, windows);
            for x in &batches {
                block.observe(x, &context, &mut |input, x| inputs.add(input, x))?;
                meter.forwarded(x, observer)?;
            }
            inputs.check(plan)?;
            for (input, seen) in inputs.0.iter().enumerate() {
                observer.observed(index, InputId(input), seen);
            }
            let mut zeros = kept.wanted();
            for (id, linear) in plan.linears.iter().enumerate() {
                let weights = self.prune_linear(linear, inputs.of(linear.input))?;
                if let Some(zeros) = &mut zeros {
                    zeros.add(&weights);
                }
                block.replace(LinearId(id), weights)?;
            }
            if index + 1 < blocks {
                for x in &mut batches {
                    *x = block.forward(x, &context)?;
                    meter.forwarded(x, observer)?;
                }
                drop(block);
                self.save(index + 1, &batches, zeros, &mut kept, observer)?;
                if observer.should_pause() {
                    return Err(EngineError::Stopped);
                }
            }
            meter.block_done(index, observer);
        }
        Ok(())
    }

    fn without_calibration(&self, observer: &mut dyn Observer) -> Result<()> {
        let blocks = &self.decoder.plan().blocks;
        for (index, block) in blocks.iter().enumerate() {
            if observer.should_stop() || observer.should_pause() {
                return Err(EngineError::Stopped);
            }
            for linear in &block.linears {
                self.prune_linear(linear, &InputStatistics::default())?;
            }
            observer.progress(Progress {
                blocks: index + 1,
                total_blocks: blocks.len(),
                tokens: 0,
                total_tokens: 0,
            });
        }
        Ok(())
    }

    /// The next block's inputs: from the journal if it has a state, from the embeddings otherwise.
    fn start(
        &self,
        windows: &TokenWindows,
        observer: &mut dyn Observer,
    ) -> Result<(Vec<Tensor>, usize, KeptZeros)> {
        let is_portable = self.options.journal.is_some_and(Journal::is_portable);
        let hidden = self.decoder.plan().hidden;
        let lengths = windows.batches().map(|ids| ids.len() * hidden);
        if let Some(Saved {
            next_block,
            zeros,
            batches,
        }) = self
            .options
            .journal
            .and_then(|journal| journal.load(lengths))
        {
            observer.resumed(next_block, self.decoder.plan().blocks.len());
            let device = self.decoder.device();
            let tensors = batches.into_iter().map(|values| {
                let shape = (values.len() / hidden, hidden);
                Tensor::from_vec(values, shape, device)
            });
            // Those of a block that was pruned before they were kept are not to be had any more.
            let kept = (is_portable && zeros.len() == next_block).then_some(zeros);
            let tensors = tensors.collect::<candle_core::Result<_>>()?;
            return Ok((tensors, next_block, KeptZeros(kept)));
        }
        let batches = windows.batches().map(|ids| self.decoder.embed(ids));
        let kept = KeptZeros(is_portable.then(Vec::new));
        Ok((batches.collect::<Result<_>>()?, 0, kept))
    }

    fn save(
        &self,
        next_block: usize,
        batches: &[Tensor],
        zeros: Option<Zeros>,
        kept: &mut KeptZeros,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let Some(journal) = self.options.journal else {
            return Ok(());
        };
        self.target.sync()?;
        if let (Some(zeros), Some(digests)) = (zeros, &mut kept.0) {
            digests.push(journal.keep_zeros(next_block - 1, &zeros)?);
        }
        let digests = kept.0.as_deref().unwrap_or_default();
        if let Some(state) = journal.save(next_block, batches, digests)? {
            observer.saved(state);
        }
        Ok(())
    }

    /// Reads a linear, prunes it in the file's own dtype, and writes it.
    fn prune_linear(&self, linear: &LinearSpec, seen: &InputStatistics) -> Result<Weights> {
        let PruneOptions { method, goal, .. } = *self.options;
        let checkpoint = self.decoder.checkpoint();
        let mut weights = checkpoint.read(&linear.weight())?;
        let mask = method.prune(&mut weights, linear, seen, goal)?;
        mask.apply(&mut weights);
        self.target
            .overwrite(checkpoint, &linear.weight(), &weights)?;
        Ok(weights)
    }
}

/// Digests of the zeros that the journal keeps of each finished block; `None` where it keeps none.
struct KeptZeros(Option<Vec<String>>);

impl KeptZeros {
    /// An empty record of the next block, if it shall be kept.
    fn wanted(&self) -> Option<Zeros> {
        self.0.is_some().then(Zeros::default)
    }
}

/// The statistics of one block's inputs.
struct Inputs(Vec<InputStatistics>);

impl Inputs {
    fn new(block: &BlockPlan, method: MethodId, windows: &TokenWindows) -> Self {
        let collecting = |&d_in| InputStatistics::collecting(method.needs(), d_in, windows.len());
        Self(block.inputs.iter().map(collecting).collect())
    }

    fn of(&self, input: InputId) -> &InputStatistics {
        &self.0[input.0]
    }

    fn add(&mut self, input: InputId, x: &Tensor) -> Result<()> {
        self.0[input.0].add(x)
    }

    /// A NaN that reaches a sum stays in it, so one look per block is enough.
    fn check(&self, block: &BlockPlan) -> Result<()> {
        let mut linears = block.linears.iter();
        match linears.find(|linear| !self.of(linear.input).is_finite()) {
            Some(linear) => Err(EngineError::NonFinite {
                what: "activations",
                place: linear.name.clone(),
            }),
            None => Ok(()),
        }
    }
}

/// Counts tokens and tells the observer.
struct Meter {
    progress: Progress,
}

impl Meter {
    /// Every block but the last is passed twice.
    fn new(windows: &TokenWindows, blocks: usize, first: usize) -> Self {
        let tokens = windows.n_tokens() as u64;
        let total_tokens = tokens * (2 * blocks as u64 - 1);
        Self {
            progress: Progress {
                blocks: first,
                total_blocks: blocks,
                tokens: tokens * 2 * first as u64,
                total_tokens,
            },
        }
    }

    fn forwarded(&mut self, x: &Tensor, observer: &mut dyn Observer) -> Result<()> {
        self.progress.tokens += x.dim(0)? as u64;
        observer.progress(self.progress);
        if observer.should_stop() {
            Err(EngineError::Stopped)
        } else {
            Ok(())
        }
    }

    fn block_done(&mut self, index: usize, observer: &mut dyn Observer) {
        self.progress.blocks = index + 1;
        observer.progress(self.progress);
        observer.block_done(index + 1);
    }
}
