//! Wanda scores of all linears of a block together.

use rayon::prelude::*;

use crate::checkpoint::Checkpoint;
use crate::error::{EngineError, Result};
use crate::model::BlockPlan;
use crate::statistic::BlockStatistics;

/// A dense block with what was observed of its inputs. One linear is in memory at a time.
#[derive(Debug)]
pub struct DenseBlock<'a> {
    pub(crate) checkpoint: &'a Checkpoint,
    pub(crate) plan: &'a BlockPlan,
    pub(crate) seen: &'a BlockStatistics,
}

impl DenseBlock<'_> {
    /// The mean of `|W_ij| · ‖X_j‖₂` over all weights of the block.
    pub fn mean_score(&self) -> Result<f64> {
        self.mean_of(f64::from)
    }

    /// The fraction of weights whose score is above `threshold`.
    pub fn share_above(&self, threshold: f64) -> Result<f64> {
        self.mean_of(|score| {
            if f64::from(score) > threshold {
                1.0
            } else {
                0.0
            }
        })
    }

    /// Rows are added up in their order, so that it is the same for any number of threads.
    fn mean_of(&self, of_score: impl Fn(f32) -> f64 + Sync) -> Result<f64> {
        let mut sum = 0.0;
        for linear in &self.plan.linears {
            let weights = self.checkpoint.read(&linear.weight())?.into_f32();
            let norms = self.seen.of(linear.input).sum_of_squares()?.norms();
            let rows = weights.par_chunks(linear.d_in).map(|row| {
                let scores = row.iter().zip(&norms);
                let scores = scores.map(|(weight, norm)| of_score(weight.abs() * norm));
                scores.sum::<f64>()
            });
            let of_linear: f64 = rows.collect::<Vec<_>>().iter().sum();
            if !of_linear.is_finite() {
                return Err(EngineError::NonFinite {
                    what: "scores",
                    place: linear.name.clone(),
                });
            }
            sum += of_linear;
        }
        Ok(sum / self.plan.weights() as f64)
    }
}
