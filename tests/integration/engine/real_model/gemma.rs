//! A second real model, Gemma-3-270M, against a plain implementation of the paper's procedure on transformers.
//!
//! `SECATEUR_REAL_GEMMA` names its directory (f32, one file); without it these tests say that they were not run.

use std::path::{Path, PathBuf};

use candle_core::{D, Device, IndexOp};
use secateur::engine::{Checkpoint, Decoder, ModelPlan, Silent, Statistic, TokenWindows, observe};

use crate::engine::log_likelihood::logits_of;
use crate::engine::reference::{Tensors, assert_close, half, method, prune_model, reference_dir};

struct Golden {
    model: PathBuf,
    tensors: Tensors,
    calibration: TokenWindows,
}

impl Golden {
    fn find() -> Option<Self> {
        let Some(model) = std::env::var_os("SECATEUR_REAL_GEMMA").map(PathBuf::from) else {
            eprintln!("NOT RUN: SECATEUR_REAL_GEMMA is not set");
            return None;
        };
        let dir = reference_dir().unwrap_or_else(|| panic!("no reference results"));
        let tensors = Tensors::read(&dir.join("gemma3-270m/golden.safetensors"));
        Some(Self {
            model,
            calibration: tensors.windows("input_ids"),
            tensors,
        })
    }

    /// The fraction of weights of a block on which masks agree. Some weights are zero before, and kept.
    fn agreement(&self, run: &str, pruned: &Path, block: usize) -> f64 {
        let [dense, checkpoint] =
            [self.model.as_path(), pruned].map(|dir| Checkpoint::open(dir).unwrap());
        let plan = ModelPlan::read(pruned).unwrap();
        let (mut equal, mut total) = (0usize, 0usize);
        for linear in &plan.blocks[block].linears {
            let read = |from: &Checkpoint| from.read(&linear.weight()).unwrap().into_f32();
            let weights = read(&dense).into_iter().zip(read(&checkpoint));
            let packed = self.tensors.bytes(&format!("{run}/{}", linear.name));
            let row_bytes = linear.d_in.div_ceil(8);
            for (i, (dense, pruned)) in weights.enumerate() {
                let (row, col) = (i / linear.d_in, i % linear.d_in);
                let zero = packed[row * row_bytes + col / 8] >> (col % 8) & 1 == 1;
                let expected = if zero { 0.0 } else { dense };
                equal += usize::from(pruned.to_bits() << 1 == expected.to_bits() << 1);
                total += 1;
            }
        }
        equal as f64 / total as f64
    }

    /// Floors of the agreement in blocks 0, 8 and 17: a flipped bit changes the inputs of all later blocks.
    fn check_masks(&self, run: &str, pattern: &str, floors: [f64; 3]) {
        let goal = half(pattern);
        let pruned = prune_model(&self.model, method("wanda"), goal, &self.calibration);
        let blocks = [0, 8, 17];
        let agreement = blocks.map(|block| self.agreement(run, pruned.dir.path(), block));
        eprintln!("{run}: masks of blocks {blocks:?} agree on {agreement:?}");
        for (agreement, floor) in agreement.iter().zip(floors) {
            assert!(*agreement >= floor, "{run}: {agreement}, at least {floor}");
        }
    }
}

#[test]
fn statistics_and_logits_of_dense_gemma_are_those_of_the_reference() {
    let Some(golden) = Golden::find() else { return };
    let checkpoint = Checkpoint::open(&golden.model).unwrap();
    let decoder = Decoder::open(&checkpoint, &Device::Cpu).unwrap();
    let wanted = [Statistic::SumOfSquares];
    let mut worst = 0f64;
    observe(
        &decoder,
        &golden.calibration,
        &wanted,
        &mut Silent,
        &mut |block, seen| {
            for linear in &decoder.plan().blocks[block].linears {
                let expected = golden.tensors.f32(&format!("dense/sum_sq/{}", linear.name));
                let sums = seen.of(linear.input).sum_of_squares()?.sums();
                for (sum, expected) in sums.iter().zip(expected) {
                    worst = worst.max((sum / f64::from(expected) - 1.0).abs());
                }
            }
            Ok(())
        },
    )
    .unwrap();
    eprintln!("statistics differ by {worst:.1e} at most");
    assert!(worst < 5e-5, "{worst}");

    let expected = golden.tensors.f32("dense/last_logsumexp");
    let windows = golden
        .calibration
        .ids()
        .chunks(golden.calibration.seq_len());
    for (ids, expected) in windows.zip(expected) {
        let logits = logits_of(&decoder, ids).i(ids.len() - 1).unwrap();
        let sum = logits.log_sum_exp(D::Minus1).unwrap();
        let sum = f64::from(sum.to_scalar::<f32>().unwrap());
        assert_close(
            sum,
            f64::from(expected),
            1e-5,
            "log of the sum of exponentials",
        );
    }
}

#[test]
fn masks_of_gemma_are_those_of_the_reference() {
    let Some(golden) = Golden::find() else { return };
    golden.check_masks("wanda-50", "unstructured", [1.0, 0.999_99, 0.998]);
}

#[test]
fn masks_of_groups_of_gemma_are_those_of_the_reference() {
    let Some(golden) = Golden::find() else { return };
    golden.check_masks("wanda-2of4", "2:4", [1.0, 0.999_9, 0.96]);
}
