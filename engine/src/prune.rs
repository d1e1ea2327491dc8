//! The block loop: observe, score, prune, forward again.

use candle_core::Tensor;

use super::activation::InputStatistic;
use super::checkpoint::{PrunedCopy, Weights};
use super::error::{EngineError, Result};
use super::journal::{Journal, Saved};
use super::mask::{Saliency, Sparsity, prune_weights};
use super::model::{BlockContext, BlockPlan, Decoder, InputId, LinearId, LinearSpec};
use super::observer::{Observer, Progress};
use super::ops::TokenLayout;
use super::windows::TokenWindows;
use super::zeros::Zeros;

/// What to prune by.
#[derive(Debug)]
pub struct PruneOptions<'a> {
    /// How weights are ranked.
    pub saliency: Saliency,
    /// How many become zero, and among which.
    pub sparsity: Sparsity,
    /// Calibration windows; [`Saliency::Magnitude`] does not look at them.
    pub windows: Option<&'a TokenWindows>,
    /// Where to keep the state between blocks; `None` = nowhere.
    pub journal: Option<&'a Journal>,
}

/// Sees a block's number, an input of its linears, and what was summed of it.
pub(super) type SeeStatistic<'a> = &'a mut dyn FnMut(usize, InputId, &InputStatistic);

/// Prunes every linear of every block of `decoder` into `target`, block by block.
///
/// For Wanda, each block is observed dense on inputs that come from the pruned blocks before it (arXiv 2306.11695,
/// algorithm 1). The last block's output is not computed. `statistics`, if given, sees Σx² of every input.
pub fn prune(
    decoder: &Decoder<'_>,
    target: &PrunedCopy,
    options: &PruneOptions<'_>,
    observer: &mut dyn Observer,
    mut statistics: Option<SeeStatistic<'_>>,
) -> Result<()> {
    decoder.plan().check_pattern(options.sparsity)?;
    let pass = Pass {
        decoder,
        target,
        options,
    };
    let windows = match options.saliency {
        Saliency::Magnitude => return pass.by_magnitude(observer),
        Saliency::Wanda => options.windows.ok_or_else(|| {
            EngineError::InvalidWindows("wanda needs calibration windows".to_owned())
        })?,
    };
    let blocks = decoder.plan().blocks.len();
    let ropes = decoder.ropes(windows.seq_len())?;
    let context = BlockContext {
        ropes: &ropes,
        layout: TokenLayout::Windows(windows.seq_len()),
    };
    let (mut batches, first, mut kept) = pass.start(windows, observer)?;
    let mut meter = Meter::new(windows, blocks, first);
    for index in first..blocks {
        let mut block = decoder.block(index)?;
        let plan = block.plan();
        let mut inputs = Inputs::new(plan);
        for x in &batches {
            block.observe(x, &context, &mut |input, x| inputs.add(input, x))?;
            meter.forwarded(x, observer)?;
        }
        inputs.check(plan)?;
        if let Some(see) = &mut statistics {
            for (input, statistic) in inputs.0.iter().enumerate() {
                see(index, InputId(input), statistic);
            }
        }
        let mut zeros = kept.wanted();
        for (id, linear) in plan.linears.iter().enumerate() {
            let norms = inputs.of(linear.input).norms(windows.len());
            let weights = pass.prune_linear(linear, Some(&norms))?;
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
            pass.save(index + 1, &batches, zeros, &mut kept, observer)?;
            if observer.should_pause() {
                return Err(EngineError::Stopped);
            }
        }
        meter.block_done(index, observer);
    }
    target.sync()
}

struct Pass<'a> {
    decoder: &'a Decoder<'a>,
    target: &'a PrunedCopy,
    options: &'a PruneOptions<'a>,
}

impl Pass<'_> {
    fn by_magnitude(&self, observer: &mut dyn Observer) -> Result<()> {
        let blocks = &self.decoder.plan().blocks;
        for (index, block) in blocks.iter().enumerate() {
            if observer.should_stop() || observer.should_pause() {
                return Err(EngineError::Stopped);
            }
            for linear in &block.linears {
                self.prune_linear(linear, None)?;
            }
            observer.progress(Progress {
                blocks: index + 1,
                total_blocks: blocks.len(),
                tokens: 0,
                total_tokens: 0,
            });
        }
        self.target.sync()
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

    /// Reads a linear, zeroes its least salient weights in the file's own dtype, and writes it.
    fn prune_linear(&self, linear: &LinearSpec, norms: Option<&[f32]>) -> Result<Weights> {
        let tensor = linear.weight();
        let checkpoint = self.decoder.checkpoint();
        let mut weights = checkpoint.read(&tensor)?;
        prune_weights(&mut weights, linear.d_in, norms, self.options.sparsity).map_err(|_| {
            EngineError::NonFinite {
                what: "scores",
                place: linear.name.clone(),
            }
        })?;
        self.target.overwrite(checkpoint, &tensor, &weights)?;
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
struct Inputs(Vec<InputStatistic>);

impl Inputs {
    fn new(block: &BlockPlan) -> Self {
        let widths = block.inputs.iter().copied();
        Self(widths.map(InputStatistic::new).collect())
    }

    fn of(&self, input: InputId) -> &InputStatistic {
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
