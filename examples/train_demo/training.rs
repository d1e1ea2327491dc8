//! The training loop: `AdamW` with warm-up and cosine decay, on random windows of one stream of tokens.

use std::io::{self, Write};

use anyhow::{Context, Result};
use candle_core::Var;
use candle_core::backprop::GradStore;
use candle_nn::{AdamW, Optimizer, ParamsAdamW};
use indicatif::ProgressBar;
use rayon::prelude::*;

use crate::model::Decoder;
use crate::rng::Rng;

/// A batch is this many parts, each with its own backward pass. The number is fixed, so that the order of all sums, and
/// with it every bit of the result, does not depend on the number of threads.
const N_SHARDS: usize = 4;
const WINDOWS_PER_SHARD: usize = 2;
const MAX_GRAD_NORM: f64 = 1.0;
const WEIGHT_DECAY: f64 = 0.1;
/// The learning rate ends at this fraction of its peak.
const FINAL_RATE: f64 = 0.05;
const WARM_UP_STEPS: usize = 60;
const REPORT_EVERY: usize = 50;

/// How long and how fast to train.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    pub(crate) n_steps: usize,
    pub(crate) peak_rate: f64,
}

impl Schedule {
    fn rate(&self, step: usize) -> f64 {
        if step < WARM_UP_STEPS {
            return self.peak_rate * (step + 1) as f64 / WARM_UP_STEPS as f64;
        }
        let done = (step - WARM_UP_STEPS) as f64
            / self.n_steps.saturating_sub(WARM_UP_STEPS).max(1) as f64;
        let cosine = 0.5 * (1.0 + (std::f64::consts::PI * done).cos());
        self.peak_rate * (FINAL_RATE + (1.0 - FINAL_RATE) * cosine)
    }
}

/// Trains `decoder` in place, on windows as long as it has positions.
pub(crate) fn train(
    decoder: &Decoder,
    stream: &[u32],
    schedule: Schedule,
    rng: &mut Rng,
) -> Result<()> {
    let seq_len = decoder.shape().max_positions;
    let vars: Vec<Var> = decoder
        .weights()
        .iter()
        .map(|(_, var)| var.clone())
        .collect();
    let (decayed, kept) = decoder
        .weights()
        .iter()
        .cloned()
        .partition::<Vec<_>, _>(|(name, _)| name.contains("_proj"));
    let optimizer = |vars: Vec<(String, Var)>, weight_decay| {
        let params = ParamsAdamW {
            beta2: 0.98,
            weight_decay,
            ..ParamsAdamW::default()
        };
        AdamW::new(vars.into_iter().map(|(_, var)| var).collect(), params)
    };
    let mut optimizers = [optimizer(decayed, WEIGHT_DECAY)?, optimizer(kept, 0.0)?];
    let bar = ProgressBar::new(schedule.n_steps as u64);
    let mut recent = Vec::new();
    for step in 0..schedule.n_steps {
        let batch: Vec<Vec<u32>> = (0..N_SHARDS)
            .map(|_| draw_windows(stream, WINDOWS_PER_SHARD, seq_len, rng))
            .collect();
        let (loss, grads) = gradients(decoder, &vars, &batch)?;
        for optimizer in &mut optimizers {
            optimizer.set_learning_rate(schedule.rate(step));
            optimizer.step(&grads)?;
        }
        recent.push(loss);
        bar.inc(1);
        if recent.len() == REPORT_EVERY || step + 1 == schedule.n_steps {
            let mean_loss = recent.iter().sum::<f64>() / recent.len() as f64;
            recent.clear();
            let seconds = bar.elapsed().as_secs();
            bar.suspend(|| {
                writeln!(
                    io::stderr(),
                    "step {:5}  loss {mean_loss:.4}  {seconds} s",
                    step + 1
                )
            })?;
        }
    }
    bar.finish_and_clear();
    Ok(())
}

fn draw_windows(stream: &[u32], n_windows: usize, seq_len: usize, rng: &mut Rng) -> Vec<u32> {
    let mut windows = Vec::with_capacity(n_windows * (seq_len + 1));
    for _ in 0..n_windows {
        let start = rng.below(stream.len() - seq_len);
        windows.extend_from_slice(&stream[start..=start + seq_len]);
    }
    windows
}

/// The mean loss of the batch and its gradients, scaled down where their common norm passes [`MAX_GRAD_NORM`].
fn gradients(decoder: &Decoder, vars: &[Var], batch: &[Vec<u32>]) -> Result<(f64, GradStore)> {
    let shards: Vec<(f64, GradStore)> = batch
        .par_iter()
        .map(|windows| {
            let loss = decoder.loss(windows, WINDOWS_PER_SHARD)?;
            Ok((f64::from(loss.to_scalar::<f32>()?), loss.backward()?))
        })
        .collect::<candle_core::Result<_>>()?;
    let loss = shards.iter().map(|(loss, _)| loss).sum::<f64>() / shards.len() as f64;
    let mut stores = shards.into_iter().map(|(_, store)| store);
    let mut sum = stores.next().context("a batch has at least one shard")?;
    for store in stores {
        for var in vars {
            if let (Some(mine), Some(other)) = (sum.get(var), store.get(var)) {
                let both = (mine + other)?;
                sum.insert(var, both);
            }
        }
    }
    let mut sq_norm = 0.0;
    for var in vars {
        if let Some(grad) = sum.get(var) {
            sq_norm += f64::from(grad.sqr()?.sum_all()?.to_scalar::<f32>()?);
        }
    }
    let mean_norm = sq_norm.sqrt() / batch.len() as f64;
    let scale = (MAX_GRAD_NORM / mean_norm).min(1.0) / batch.len() as f64;
    for var in vars {
        if let Some(grad) = sum.get(var) {
            let scaled = (grad * scale)?;
            sum.insert(var, scaled);
        }
    }
    Ok((loss, sum))
}
