//! Perplexity, protocol `paper`: how LLM pruning papers report WikiText-2.
//!
//! Consecutive windows; in each, the loss of predicting tokens 1..seq_len from those before (the first token is
//! never scored). With the mean loss `m_i` of window `i` in nats, perplexity = exp(Σ m_i · seq_len / (n · seq_len)),
//! which is exp of the mean of the `m_i`.

use candle_core::Tensor;

use super::error::{EngineError, Result};
use super::model::{Block, BlockContext, Decoder, LinearKind, ModelConfig};
use super::observer::{Observer, Progress};
use super::ops::negative_log_likelihoods;
use super::windows::TokenWindows;

/// Bytes of activations that go through the blocks together; more windows go in turns.
const WAVE_BYTES: usize = 256 << 20;
/// Bytes of logits that exist at a time.
const LOGITS_BYTES: usize = 32 << 20;

/// A perplexity with what it is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct Perplexity {
    /// exp of the mean of `window_mean_nll`.
    pub value: f64,
    /// Mean loss of each window in nats per token.
    pub window_mean_nll: Vec<f64>,
}

/// Measures `decoder` on all of `windows`.
///
/// Blocks are read one at a time, also when the windows go in several turns, unless all of them together fit into
/// `resident_bytes`: then turns after the first find them in memory. The result is the same.
pub fn perplexity(
    decoder: &Decoder<'_>,
    windows: &TokenWindows,
    resident_bytes: u64,
    observer: &mut dyn Observer,
) -> Result<Perplexity> {
    let config = decoder.config();
    let (blocks, seq_len) = (config.blocks, windows.seq_len());
    let rope = decoder.rope(seq_len)?;
    let context = BlockContext {
        config,
        rope: &rope,
        seq_len,
    };
    let batches: Vec<&[u32]> = windows.batches().collect();
    let batches_per_wave =
        (WAVE_BYTES / (batches[0].len() * config.hidden * size_of::<f32>())).max(1);
    let waves: Vec<&[&[u32]]> = batches.chunks(batches_per_wave).collect();
    let mut source = BlockSource::new(
        decoder,
        waves.len() > 1 && block_bytes(config) <= resident_bytes,
    );

    let mut progress = Progress {
        blocks: 0,
        total_blocks: blocks,
        tokens: 0,
        total_tokens: (windows.n_tokens() * blocks) as u64,
    };
    let mut window_mean_nll = Vec::with_capacity(windows.len());
    for wave in waves {
        let mut states = wave
            .iter()
            .map(|ids| decoder.embed(ids))
            .collect::<Result<Vec<Tensor>>>()?;
        progress.blocks = 0;
        for index in 0..blocks {
            source.with(index, |block| {
                for x in &mut states {
                    *x = block.forward(x, &context)?;
                    progress.tokens += x.dim(0)? as u64;
                    observer.progress(progress);
                    if observer.should_stop() {
                        return Err(EngineError::Stopped);
                    }
                }
                Ok(())
            })?;
            progress.blocks = index + 1;
        }
        let head = decoder.head()?;
        for (ids, x) in wave.iter().zip(states) {
            for (window, ids) in ids.chunks_exact(seq_len).enumerate() {
                let nlls = window_nlls(&head, &x.narrow(0, window * seq_len, seq_len)?, ids)?;
                let mean = nlls.iter().map(|&nll| f64::from(nll)).sum::<f64>() / nlls.len() as f64;
                if !mean.is_finite() {
                    let place = format!("window {}", window_mean_nll.len());
                    return Err(EngineError::NonFinite {
                        what: "losses",
                        place,
                    });
                }
                window_mean_nll.push(mean);
            }
        }
    }
    observer.progress(progress);
    let value = (window_mean_nll.iter().sum::<f64>() / window_mean_nll.len() as f64).exp();
    if !value.is_finite() {
        let place = "a perplexity beyond the range of numbers".to_owned();
        return Err(EngineError::NonFinite {
            what: "losses",
            place,
        });
    }
    Ok(Perplexity {
        value,
        window_mean_nll,
    })
}

/// The `seq_len − 1` losses of one window. `x`: `[seq_len, hidden]`.
fn window_nlls(head: &super::model::Head, x: &Tensor, ids: &[u32]) -> Result<Vec<f32>> {
    let targets = &ids[1..];
    let rows = (LOGITS_BYTES / (head.vocab()? * size_of::<f32>())).max(1);
    let mut nlls = Vec::with_capacity(targets.len());
    for (chunk, targets) in targets.chunks(rows).enumerate() {
        let logits = head.logits(&x.narrow(0, chunk * rows, targets.len())?)?;
        nlls.extend(negative_log_likelihoods(&logits, targets)?);
    }
    Ok(nlls)
}

/// Bytes of the linears of all blocks in f32.
fn block_bytes(config: &ModelConfig) -> u64 {
    let weights = LinearKind::ALL.map(|kind| {
        let (d_out, d_in) = kind.shape(config);
        d_out as u64 * d_in as u64
    });
    weights.iter().sum::<u64>() * config.blocks as u64 * size_of::<f32>() as u64
}

/// Reads blocks when they are needed, and keeps them if it may.
struct BlockSource<'a> {
    decoder: &'a Decoder<'a>,
    keep: bool,
    kept: Vec<Block>,
}

impl<'a> BlockSource<'a> {
    fn new(decoder: &'a Decoder<'a>, keep: bool) -> Self {
        Self {
            decoder,
            keep,
            kept: Vec::new(),
        }
    }

    fn with<R>(&mut self, index: usize, work: impl FnOnce(&Block) -> Result<R>) -> Result<R> {
        if let Some(block) = self.kept.get(index) {
            return work(block);
        }
        let block = self.decoder.block(index)?;
        let result = work(&block)?;
        if self.keep {
            self.kept.push(block);
        }
        Ok(result)
    }
}
