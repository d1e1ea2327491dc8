//! How far a model's predictions are from those of another on the same text.
//!
//! At every predicted position of every window, KL(P‖Q) = Σ_v P(v) ln(P(v) / Q(v)) in nats, where P is the first
//! model (the dense one) and Q the second (the pruned one).

use candle_core::Tensor;

use super::forward::{Batch, Meter, forward, rows_of_logits};
use super::perplexity::{Perplexity, waves, window_mean};
use super::resident_blocks::ResidentBlocks;
use crate::error::{EngineError, Result};
use crate::model::{Head, ModelPlan};
use crate::observer::Observer;
use crate::ops::{PairedPrediction, paired_predictions};
use crate::windows::TokenWindows;

/// Two models, P and Q, on the same windows.
#[derive(Debug, Clone, PartialEq)]
pub struct Divergence {
    /// Perplexity of the first model: what [`super::perplexity()`] finds.
    pub perplexity_p: Perplexity,
    /// Perplexity of the second model.
    pub perplexity_q: Perplexity,
    /// Mean of KL(P‖Q) over all predicted positions, in nats per token.
    pub mean_kl: f64,
    /// Mean of KL(P‖Q) of each window. Windows are of one length, so `mean_kl` is the mean of these.
    pub window_mean_kl: Vec<f64>,
    /// Fraction of positions at which both models have their largest logit at the same token.
    pub top_1_agreement: f64,
}

/// Measures `p` and `q` on all of `windows`.
pub fn divergence(
    p: &mut ResidentBlocks<'_>,
    q: &mut ResidentBlocks<'_>,
    windows: &TokenWindows,
    observer: &mut dyn Observer,
) -> Result<Divergence> {
    let mut one = divergences(p, &mut [q], windows, observer)?;
    Ok(one.remove(0))
}

/// Measures `p` and each of `others` on all of `windows`. A part of the windows goes through all models in turns, through
/// `p` once, so that activations and logits of two models are all that exists at a time.
pub fn divergences(
    p: &mut ResidentBlocks<'_>,
    others: &mut [&mut ResidentBlocks<'_>],
    windows: &TokenWindows,
    observer: &mut dyn Observer,
) -> Result<Vec<Divergence>> {
    let p_plan = p.decoder().plan();
    // Waves that are small enough for every model.
    let (mut tokens_per_wave, mut blocks) = (p.tokens_per_wave(), p_plan.blocks.len());
    for q in &*others {
        let plan = q.decoder().plan();
        if p_plan.vocab != plan.vocab {
            return Err(EngineError::VocabularyMismatch {
                first: p_plan.vocab,
                second: plan.vocab,
            });
        }
        blocks += plan.blocks.len();
        tokens_per_wave = tokens_per_wave.min(q.tokens_per_wave());
    }
    let ropes = |model: &ResidentBlocks<'_>| model.decoder().ropes(windows.seq_len());
    let ropes_p = ropes(p)?;
    let ropes_q = others
        .iter()
        .map(|q| ropes(q))
        .collect::<Result<Vec<_>>>()?;
    let mut meter = Meter::new(observer, blocks, (windows.n_tokens() * blocks) as u64);
    let mut sums: Vec<Sums> = others.iter().map(|_| Sums::default()).collect();
    for wave in waves(windows, tokens_per_wave) {
        meter.begin_wave();
        let states_p = forward(p, &wave, &ropes_p, &mut meter)?;
        for ((q, ropes), sums) in others.iter_mut().zip(&ropes_q).zip(&mut sums) {
            let states_q = forward(q, &wave, ropes, &mut meter)?;
            p.with_head(|head_p| {
                q.with_head(|head_q| {
                    let heads = Heads {
                        p: head_p,
                        q: head_q,
                        plan: p_plan,
                    };
                    for ((batch, x_p), x_q) in wave.iter().zip(&states_p).zip(&states_q) {
                        heads.compare(batch, windows.seq_len(), [x_p, x_q], sums)?;
                    }
                    Ok(())
                })
            })?;
        }
    }
    sums.into_iter().map(Sums::finish).collect()
}

struct Heads<'a> {
    p: &'a Head,
    q: &'a Head,
    plan: &'a ModelPlan,
}

impl Heads<'_> {
    /// `x`: the last blocks' outputs of both models for one batch, `[n_tokens, hidden]` each.
    fn compare(
        &self,
        batch: &Batch<'_>,
        seq_len: usize,
        x: [&Tensor; 2],
        sums: &mut Sums,
    ) -> Result<()> {
        let rows = rows_of_logits(self.plan);
        for (window, ids) in batch.ids.chunks_exact(seq_len).enumerate() {
            let mut predictions = Vec::with_capacity(seq_len - 1);
            for (chunk, targets) in ids[1..].chunks(rows).enumerate() {
                let start = window * seq_len + chunk * rows;
                let logits =
                    |head: &Head, x: &Tensor| head.logits(&x.narrow(0, start, targets.len())?);
                let (p, q) = (logits(self.p, x[0])?, logits(self.q, x[1])?);
                predictions.extend(paired_predictions(&p, &q, targets)?);
            }
            sums.add(&predictions)?;
        }
        Ok(())
    }
}

#[derive(Default)]
struct Sums {
    nll_p: Vec<f64>,
    nll_q: Vec<f64>,
    kl: Vec<f64>,
    agreeing: usize,
    positions: usize,
}

impl Sums {
    /// Adds a window.
    fn add(&mut self, predictions: &[PairedPrediction]) -> Result<()> {
        let index = self.kl.len();
        self.nll_p
            .push(window_mean(predictions.iter().map(|x| x.nll_p), index)?);
        self.nll_q
            .push(window_mean(predictions.iter().map(|x| x.nll_q), index)?);
        self.kl
            .push(window_mean(predictions.iter().map(|x| x.kl), index)?);
        self.agreeing += predictions.iter().filter(|x| x.agrees).count();
        self.positions += predictions.len();
        Ok(())
    }

    fn finish(self) -> Result<Divergence> {
        Ok(Divergence {
            perplexity_p: Perplexity::new(self.nll_p)?,
            perplexity_q: Perplexity::new(self.nll_q)?,
            mean_kl: self.kl.iter().sum::<f64>() / self.kl.len() as f64,
            window_mean_kl: self.kl,
            top_1_agreement: self.agreeing as f64 / self.positions as f64,
        })
    }
}
