//! A real model, SmolLM2-135M-Instruct, against results of the original PyTorch implementation.
//!
//! `SECATEUR_REAL_MODEL` names its directory (f32, one file); without it these tests say that they were not run.

mod gemma;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use secateur::engine::{Checkpoint, ModelPlan, Recipe, TokenWindows};
use serde_json::Value;

use crate::engine::library::assert_same_logits;
use crate::engine::reference::{Tensors, half, method, perplexity_of, prune_model, reference_dir};
use crate::support::command_line;

/// Of the reference's 60 windows: enough to tell one mask from another, in a quarter of the time.
const WINDOWS: usize = 15;
const SEQ_LEN: usize = 512;

struct Real {
    model: PathBuf,
    reference: PathBuf,
    calibration: TokenWindows,
    expected: Value,
}

impl Real {
    fn find() -> Option<Self> {
        let Some(model) = std::env::var_os("SECATEUR_REAL_MODEL").map(PathBuf::from) else {
            eprintln!("NOT RUN: SECATEUR_REAL_MODEL is not set");
            return None;
        };
        let reference = reference_dir()
            .unwrap_or_else(|| panic!("no reference results"))
            .join("smollm2");
        let calibration =
            Tensors::read(&reference.join("calibration_ids.safetensors")).windows("input_ids");
        let expected = json(&reference.join("reference.json"));
        Some(Self {
            model,
            reference,
            calibration,
            expected,
        })
    }

    /// The reference's evaluation windows, cut from the text by the command line's own path.
    fn perplexity(&self, dir: &Path) -> f64 {
        let text = self.reference.join("../../data/wikitext2/wiki.test.raw");
        let (dir, text) = (dir.to_str().unwrap(), text.to_str().unwrap());
        let (seq_len, windows) = (SEQ_LEN.to_string(), WINDOWS.to_string());
        let args = [
            "evaluate",
            "--json",
            "--model",
            dir,
            "--eval-file",
            text,
            "--eval-seq-len",
            &seq_len,
            "--eval-windows",
            &windows,
        ];
        let output = command_line::secateur(&args);
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        document["results"]["perplexity"][0]["after"]
            .as_f64()
            .unwrap()
    }

    fn check_perplexity(&self, run: &str, dir: &Path, relative: f64) {
        self.check_perplexity_of(&self.expected, run, dir, relative);
    }

    fn check_perplexity_of(&self, expected: &Value, run: &str, dir: &Path, relative: f64) {
        let sums = expected["runs"][run]["window_nll_sum"].as_array();
        let sums = sums.unwrap().iter().take(WINDOWS);
        let sum: f64 = sums.map(|sum| sum.as_f64().unwrap()).sum();
        let expected = (sum / (WINDOWS * SEQ_LEN) as f64).exp();
        let actual = self.perplexity(dir);
        eprintln!(
            "{run}: perplexity {actual:.4}, reference {expected:.4} ({:+.4} %)",
            (actual / expected - 1.0) * 100.0
        );
        assert!(
            (actual / expected - 1.0).abs() <= relative,
            "{run}: {actual}, expected {expected}"
        );
    }

    /// Fractions of weights on which masks agree, by block.
    fn mask_agreement(&self, pruned: &Path, file: &str) -> BTreeMap<usize, f64> {
        let masks = Tensors::read(&self.reference.join(file));
        let checkpoint = Checkpoint::open(pruned).unwrap();
        let plan = ModelPlan::read(pruned).unwrap();
        let blocks = plan.blocks.iter().enumerate();
        let blocks = blocks.filter(|(_, block)| masks.contains(&block.linears[0].name));
        let agreement = blocks.map(|(block, of_block)| {
            let (mut equal, mut total) = (0usize, 0usize);
            for linear in &of_block.linears {
                let weights = checkpoint.read(&linear.weight()).unwrap().into_f32();
                let packed = masks.bytes(&linear.name);
                let cols = linear.d_in;
                let row_bytes = cols.div_ceil(8);
                for (i, weight) in weights.iter().enumerate() {
                    let (row, col) = (i / cols, i % cols);
                    let zero = packed[row * row_bytes + col / 8] >> (col % 8) & 1 == 1;
                    equal += usize::from(zero == (*weight == 0.0));
                }
                total += weights.len();
            }
            (block, equal as f64 / total as f64)
        });
        agreement.collect()
    }
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

impl Real {
    fn check_masks(&self, run: &str, pruned: &Path) {
        let agreement = self.mask_agreement(pruned, &format!("masks-{run}.safetensors"));
        let worst = agreement.values().copied().fold(1.0, f64::min);
        eprintln!(
            "{run}: masks agree on {:.5} % in block 0, on {:.5} % in the worst",
            agreement[&0] * 100.0,
            worst * 100.0
        );
        assert!(
            agreement[&0] >= 0.9999,
            "{run}: block 0 agrees on {}",
            agreement[&0]
        );
        // A score that nearly ties falls to one side or the other with the last bits of an activation, and every such
        // flip changes the activations of all later blocks: agreement falls with depth, and faster for N:M.
        let (floor, relative) = if run == "wanda-50" {
            (0.998, 0.003)
        } else {
            (0.99, 0.01)
        };
        assert!(worst >= floor, "{run}: {agreement:?}");
        self.check_perplexity(run, pruned, relative);
    }
}

/// From the text on, by the command line.
#[test]
fn the_windows_drawn_from_the_text_and_the_masks_are_those_of_the_reference() {
    let Some(real) = Real::find() else { return };
    let out = tempfile::tempdir().unwrap();
    let out = out.path().join("out");
    let text = real.reference.join("../../data/wikitext2/wiki.valid.raw");
    let manifest = command_line::prune(&[
        "--model",
        real.model.to_str().unwrap(),
        "--sparsity",
        "0.5",
        "--calibration-file",
        text.to_str().unwrap(),
        "--n-samples",
        "32",
        "--seq-len",
        &SEQ_LEN.to_string(),
        "--seed",
        "0",
        "--out",
        out.to_str().unwrap(),
    ]);
    let expected = &real.expected["recipe"]["calibration"]["window_ids_sha256_int64_le"];
    assert_eq!(&manifest["calibration"]["window_sha256"], expected);
    eprintln!(
        "prune: {} s, peak {} bytes",
        manifest["timings_s"]["pruning"], manifest["peak_rss_bytes"]
    );
    real.check_masks("wanda-50", &out);
}

#[test]
fn masks_of_groups_are_those_of_the_reference() {
    let Some(real) = Real::find() else { return };
    for (run, kept, group) in [("wanda-2of4", 2, 4), ("wanda-4of8", 4, 8)] {
        let goal = half(&format!("{kept}:{group}"));
        let pruned = prune_model(&real.model, method("wanda"), goal, &real.calibration);
        real.check_masks(run, pruned.dir.path());
    }
}

#[test]
fn dense_and_magnitude_perplexities_are_those_of_the_reference() {
    let Some(real) = Real::find() else { return };
    real.check_perplexity("dense", &real.model, 0.003);
    let pruned = prune_model(
        &real.model,
        method("magnitude"),
        half("unstructured"),
        &real.calibration,
    );
    real.check_perplexity("magnitude-50", pruned.dir.path(), 0.03);
}

/// The original takes ten steps.
#[test]
fn a_refit_has_the_perplexity_of_the_original() {
    let Some(real) = Real::find() else { return };
    let refitted = Recipe {
        refit: true,
        ..method("wanda").into()
    };
    let expected = json(&real.reference.join("../methods/smollm2.json"));
    let pruned = prune_model(
        &real.model,
        refitted,
        half("unstructured"),
        &real.calibration,
    );
    real.check_perplexity_of(&expected, "pcg@50", pruned.dir.path(), 0.01);
}

#[test]
fn logits_of_the_real_model_are_those_of_an_independent_implementation() {
    let Some(real) = Real::find() else { return };
    assert_same_logits(&real.model, &real.calibration.ids()[..512]);
    assert!(
        perplexity_of(
            &real.model,
            &TokenWindows::new(real.calibration.ids()[..1024].to_vec(), 512).unwrap()
        ) < 60.0
    );
}
