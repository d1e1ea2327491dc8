//! Perplexity, protocol `paper`: how LLM pruning papers report WikiText-2.
//!
//! Consecutive windows; in each, the loss of predicting tokens 1..seq_len from those before (the first token is
//! never scored). With the mean loss `m_i` of window `i` in nats, perplexity = exp(Σ m_i · seq_len / (n · seq_len)),
//! which is exp of the mean of the `m_i`.

use candle_core::Tensor;

use super::forward::{Batch, Meter, forward, rows_of_logits};
use super::resident_blocks::ResidentBlocks;
use crate::error::{EngineError, Result};
use crate::model::{Head, ModelPlan};
use crate::observer::Observer;
use crate::ops::{TokenLayout, negative_log_likelihoods};
use crate::windows::TokenWindows;

/// A perplexity with what it is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct Perplexity {
    /// exp of the mean of `window_mean_nll`.
    pub value: f64,
    /// Mean loss of each window in nats per token.
    pub window_mean_nll: Vec<f64>,
}

impl Perplexity {
    pub(super) fn new(window_mean_nll: Vec<f64>) -> Result<Self> {
        let value = (window_mean_nll.iter().sum::<f64>() / window_mean_nll.len() as f64).exp();
        if !value.is_finite() {
            let place = "a perplexity beyond the range of numbers".to_owned();
            return Err(EngineError::NonFinite {
                what: "losses",
                place,
            });
        }
        Ok(Self {
            value,
            window_mean_nll,
        })
    }
}

/// Measures `model` on all of `windows`.
///
/// Blocks are read one at a time, also when the windows go in several turns, unless `model` keeps them. The result is
/// the same.
pub fn perplexity(
    model: &mut ResidentBlocks<'_>,
    windows: &TokenWindows,
    observer: &mut dyn Observer,
) -> Result<Perplexity> {
    let plan = model.decoder().plan();
    let ropes = model.decoder().ropes(windows.seq_len())?;
    let total_tokens = (windows.n_tokens() * plan.blocks.len()) as u64;
    let mut meter = Meter::new(observer, plan.blocks.len(), total_tokens);
    let mut window_mean_nll = Vec::with_capacity(windows.len());
    for wave in waves(windows, model.tokens_per_wave()) {
        meter.begin_wave();
        let states = forward(model, &wave, &ropes, &mut meter)?;
        model.with_head(|head| {
            for (batch, x) in wave.iter().zip(&states) {
                for (window, ids) in batch.ids.chunks_exact(windows.seq_len()).enumerate() {
                    let x = x.narrow(0, window * windows.seq_len(), windows.seq_len())?;
                    let nlls = window_nlls(head, plan, &x, ids)?;
                    window_mean_nll.push(window_mean(nlls.into_iter(), window_mean_nll.len())?);
                }
            }
            Ok(())
        })?;
    }
    Perplexity::new(window_mean_nll)
}

/// Batches of whole windows, as many at a time as may exist together.
pub(super) fn waves(windows: &TokenWindows, tokens_per_wave: usize) -> Vec<Vec<Batch<'_>>> {
    let layout = TokenLayout::Windows(windows.seq_len());
    let batches: Vec<Batch<'_>> = windows.batches().map(|ids| Batch { ids, layout }).collect();
    let per_wave = (tokens_per_wave / batches[0].ids.len()).max(1);
    batches.chunks(per_wave).map(<[_]>::to_vec).collect()
}

/// Mean of the losses of the positions of window `index`.
pub(super) fn window_mean(losses: impl ExactSizeIterator<Item = f32>, index: usize) -> Result<f64> {
    let n = losses.len() as f64;
    let mean = losses.map(f64::from).sum::<f64>() / n;
    if mean.is_finite() {
        Ok(mean)
    } else {
        let place = format!("window {index}");
        Err(EngineError::NonFinite {
            what: "losses",
            place,
        })
    }
}

/// The `seq_len − 1` losses of one window. `x`: `[seq_len, hidden]`.
fn window_nlls(head: &Head, plan: &ModelPlan, x: &Tensor, ids: &[u32]) -> Result<Vec<f32>> {
    let targets = &ids[1..];
    let rows = rows_of_logits(plan);
    let mut nlls = Vec::with_capacity(targets.len());
    for (chunk, targets) in targets.chunks(rows).enumerate() {
        let logits = head.logits(&x.narrow(0, chunk * rows, targets.len())?)?;
        nlls.extend(negative_log_likelihoods(&logits, targets)?);
    }
    Ok(nlls)
}
