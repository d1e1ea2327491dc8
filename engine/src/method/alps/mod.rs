//! ALPS (arXiv 2406.07831): the support by alternating directions, then the kept weights fitted to it.
//!
//! `A = G + λI` is scaled to a diagonal of ones and the weights with it; `W` are the scaled dense weights, `R = W A`.
//! `P` zeroes the smallest magnitudes. From `B = W`, `D = P(W)`, `V = 0`, `ρ = 0.1`:
//!
//! ```text
//! B ← (R − V + ρD) (A + ρI)⁻¹      D ← P(B + V/ρ)      V ← V + ρ (B − D)
//! ```
//!
//! ρ grows while the support changes; a support that no longer changes ends the search. `P` compares all weights of a
//! linear, or those of a group.

use rayon::prelude::*;

use super::{Absolute, Chosen, Method, lowest};
use crate::algebra::inverse_of;
use crate::algebra::{ROWS_PER_TASK, times_gram};
use crate::checkpoint::Weights;
use crate::error::{EngineError, Result};
use crate::mask::Mask;
use crate::model::LinearSpec;
use crate::pattern::{ComparisonGroup, Goal};
use crate::refine::{ScaledGram, refit, refit_multiplications};
use crate::simd::vectorized;
use crate::statistic::{InputStatistics, Pairing, Statistic};

/// Chooses the support by ADMM on the Gram matrix.
#[derive(Debug, Clone, Copy)]
pub(super) struct Alps;

impl Method for Alps {
    fn name(&self) -> &'static str {
        "alps"
    }

    fn doc(&self) -> &'static str {
        "The support by ADMM on the Gram matrix, then the kept weights fitted to it (arXiv 2406.07831)."
    }

    fn needs(&self) -> &'static [Statistic] {
        &[Statistic::Gram]
    }

    fn only_zeroes(&self) -> bool {
        false
    }

    fn fits_pairs(&self) -> bool {
        true
    }

    /// The scaled matrix, the inverse and its factors; five matrices of the weights' shape.
    fn working_bytes(&self, d_out: u64, d_in: u64) -> u64 {
        16 * d_in * d_in + 20 * d_out * d_in
    }

    /// A search of 33 rounds, as is usual, an inverse in every third, and the fit.
    fn multiplications(&self, d_out: u64, d_in: u64) -> u64 {
        const ROUNDS: u64 = 33;
        let inverses = d_in
            .saturating_pow(3)
            .saturating_mul(ROUNDS / LOOK_EVERY as u64);
        let rounds = (ROUNDS * d_out * d_in).saturating_mul(d_in);
        let all = rounds.saturating_add(inverses);
        all.saturating_add(refit_multiplications(d_out, d_in))
    }

    fn prune(
        &self,
        weights: &mut Weights,
        linear: &LinearSpec,
        seen: &InputStatistics,
        goal: Goal,
    ) -> Result<Chosen> {
        let gram = seen.gram()?;
        let dense = weights.clone().into_f32();
        if !dense.iter().all(|weight| weight.is_finite()) {
            return Err(EngineError::NonFinite {
                what: "weights",
                place: linear.name.clone(),
            });
        }
        if gram.diagonal().all(|square| square == 0.0) {
            // An input that is always zero says nothing: there is no matrix to solve with.
            return lowest(weights, linear, goal, ComparisonGroup::Linear, &Absolute);
        }
        let scaled = ScaledGram::of(gram);
        let mut kept = Search::new(&scaled, linear, goal, &dense, seen.pairing())?.run()?;
        scaled.unscale(&mut kept.values);
        weights.assign(&kept.values);
        refit(&dense, weights, &kept.mask, gram, seen.pairing());
        Ok(kept.mask.into())
    }
}

/// Iterations after which the support is taken as it is.
const MAX_ITERATIONS: usize = 300;

/// Iterations between two looks at the support.
const LOOK_EVERY: usize = 3;

/// From this iteration on a support is good enough that hardly changes.
const GOOD_ENOUGH_FROM: usize = 30;

/// Changed entries, relative to the kept ones, of a support that hardly changes.
const GOOD_ENOUGH: f64 = 0.0003;

const FIRST_PENALTY: f32 = 0.1;
const MAX_PENALTY: f32 = 1e6;

/// Weights of a linear with the zeros of a mask.
struct Masked {
    values: Vec<f32>,
    mask: Mask,
}

struct Search<'a> {
    scaled: &'a ScaledGram,
    linear: &'a LinearSpec,
    goal: Goal,
    /// Scaled dense weights, `[d_out, d_in]`.
    dense: Vec<f32>,
    /// `W A`, and the shift of a pairing.
    target: Vec<f32>,
    /// `B`.
    free: Vec<f32>,
    /// `D`.
    sparse: Masked,
    /// `V`.
    multipliers: Vec<f32>,
    penalty: f32,
}

impl<'a> Search<'a> {
    fn new(
        scaled: &'a ScaledGram,
        linear: &'a LinearSpec,
        goal: Goal,
        dense: &[f32],
        pairing: Option<&Pairing>,
    ) -> Result<Self> {
        let task = ROWS_PER_TASK * scaled.d_in();
        let mut shift = pairing.map(|pairing| {
            let tasks = dense.par_chunks(task).enumerate();
            let rows =
                tasks.flat_map_iter(|(task, rows)| pairing.shift(rows, task * ROWS_PER_TASK));
            rows.collect::<Vec<f32>>()
        });
        let dense = scaled.scale(dense);
        let mut target = vec![0.0; dense.len()];
        let tasks = target.par_chunks_mut(task).zip(dense.par_chunks(task));
        tasks.for_each(|(target, dense)| times_gram(target, dense, scaled.values(), scaled.d_in()));
        if let Some(shift) = &mut shift {
            scaled.unscale(shift);
            target.iter_mut().zip(shift).for_each(|(sum, x)| *sum += *x);
        }
        Ok(Self {
            sparse: projected(dense.clone(), linear, goal)?,
            free: dense.clone(),
            multipliers: vec![0.0; dense.len()],
            penalty: FIRST_PENALTY,
            scaled,
            linear,
            goal,
            dense,
            target,
        })
    }

    /// The weights on the support that was found.
    fn run(mut self) -> Result<Masked> {
        let kept = (self.dense.len() as u64 - self.sparse.mask.count()) as f64;
        // There is nothing to search.
        if kept == 0.0 {
            return Ok(self.sparse);
        }
        let mut inverse = self.inverse()?;
        let mut last_support = self.sparse.mask.clone();
        let mut has_grown = false;
        for iteration in 0..MAX_ITERATIONS {
            self.step(&inverse)?;
            if (iteration + 1) % LOOK_EVERY != 0 {
                continue;
            }
            let changed = self.sparse.mask.differing(&last_support);
            last_support.clone_from(&self.sparse.mask);
            let share = changed as f64 / kept;
            let factor = match share {
                0.1.. => 1.3,
                0.005.. => 1.2,
                _ if has_grown && changed == 0 => break,
                _ if has_grown => 1.1,
                _ => 0.2,
            };
            let restarts = factor < 1.0 && changed > 0;
            has_grown |= share >= 0.005;
            if iteration >= GOOD_ENOUGH_FROM && share < GOOD_ENOUGH {
                break;
            }
            self.penalty = (self.penalty * factor).min(MAX_PENALTY);
            inverse = self.inverse()?;
            if restarts {
                self.restart()?;
                last_support.clone_from(&self.sparse.mask);
            }
        }
        projected(self.free, self.linear, self.goal)
    }

    fn restart(&mut self) -> Result<()> {
        self.free.clone_from(&self.dense);
        self.sparse = projected(self.dense.clone(), self.linear, self.goal)?;
        self.multipliers.fill(0.0);
        Ok(())
    }

    /// `(A + ρI)⁻¹`.
    fn inverse(&self) -> Result<Vec<f32>> {
        let (d_in, values) = (self.scaled.d_in(), self.scaled.values());
        let inverse = inverse_of(d_in, |i, j| {
            values[i * d_in + j] + if i == j { self.penalty } else { 0.0 }
        });
        inverse.ok_or_else(|| EngineError::SingularHessian {
            linear: self.linear.name.clone(),
            damping: f64::from(self.penalty),
        })
    }

    /// One round of `B`, `D` and `V`.
    fn step(&mut self, inverse: &[f32]) -> Result<()> {
        let (d_in, penalty) = (self.scaled.d_in(), self.penalty);
        let task = ROWS_PER_TASK * d_in;
        let mut shifted = vec![0.0; self.dense.len()];
        self.free
            .par_chunks_mut(task)
            .zip(shifted.par_chunks_mut(task))
            .zip(self.target.par_chunks(task))
            .zip(self.sparse.values.par_chunks(task))
            .zip(self.multipliers.par_chunks(task))
            .for_each(|((((free, shifted), target), sparse), multipliers)| {
                vectorized(|| {
                    for (i, shifted) in shifted.iter_mut().enumerate() {
                        *shifted = target[i] - multipliers[i] + penalty * sparse[i];
                    }
                });
                times_gram(free, shifted, inverse, d_in);
                vectorized(|| {
                    for (i, shifted) in shifted.iter_mut().enumerate() {
                        *shifted = free[i] + multipliers[i] / penalty;
                    }
                });
            });
        self.sparse = projected(shifted, self.linear, self.goal)?;
        self.multipliers
            .par_chunks_mut(task)
            .zip(self.free.par_chunks(task))
            .zip(self.sparse.values.par_chunks(task))
            .for_each(|((multipliers, free), sparse)| {
                vectorized(|| {
                    for (i, multiplier) in multipliers.iter_mut().enumerate() {
                        *multiplier += penalty * (free[i] - sparse[i]);
                    }
                });
            });
        Ok(())
    }
}

/// The smallest magnitudes become zero.
fn projected(values: Vec<f32>, linear: &LinearSpec, goal: Goal) -> Result<Masked> {
    let mut weights = Weights::F32(values);
    let mask = lowest(&weights, linear, goal, ComparisonGroup::Linear, &Absolute)?.mask;
    mask.apply(&mut weights);
    Ok(Masked {
        values: weights.into_f32(),
        mask,
    })
}

#[cfg(test)]
mod tests;
