//! A real model, SmolLM2-135M-Instruct, against results of the original PyTorch implementation.
//!
//! `SECATEUR_REAL_MODEL` names its directory (f32, one file); without it these tests say that they were not run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use secateur::engine::model::LinearKind;
use secateur::engine::{Checkpoint, Saliency, Sparsity, TokenWindows};
use serde_json::Value;

use crate::command_line;
use crate::engine::assert_same_logits;
use crate::reference::{Pruned, Tensors, perplexity_of, prune_model, reference_dir};

const BLOCKS: usize = 30;

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
        let expected =
            serde_json::from_slice(&std::fs::read(reference.join("reference.json")).unwrap())
                .unwrap();
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
        let args = [
            "evaluate",
            "--json",
            "--model",
            dir,
            "--eval-file",
            text,
            "--eval-seq-len",
            "512",
            "--eval-windows",
            "60",
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
        let expected = self.expected["runs"][run]["perplexity"].as_f64().unwrap();
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
    fn mask_agreement(&self, pruned: &Pruned, file: &str) -> BTreeMap<usize, f64> {
        let masks = Tensors::read(&self.reference.join(file));
        let checkpoint = Checkpoint::open(pruned.dir.path()).unwrap();
        let blocks = (0..BLOCKS).filter(|&block| masks.contains(&LinearKind::Q.name(block)));
        let agreement = blocks.map(|block| {
            let (mut equal, mut total) = (0usize, 0usize);
            for kind in LinearKind::ALL {
                let name = kind.name(block);
                let weights = checkpoint
                    .read(&format!("{name}.weight"))
                    .unwrap()
                    .into_f32();
                let packed = masks.bytes(&name);
                let cols = packed_cols(kind);
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

fn packed_cols(kind: LinearKind) -> usize {
    if kind == LinearKind::Down { 1536 } else { 576 }
}

#[test]
fn wanda_gives_the_masks_and_perplexities_of_the_reference() {
    let Some(real) = Real::find() else { return };
    let nm = |kept, group| Sparsity::KeptOfGroup { kept, group };
    for (run, sparsity) in [
        ("wanda-50", Sparsity::Ratio(0.5)),
        ("wanda-2of4", nm(2, 4)),
        ("wanda-4of8", nm(4, 8)),
    ] {
        let pruned = prune_model(&real.model, Saliency::Wanda, sparsity, &real.calibration);
        let agreement = real.mask_agreement(&pruned, &format!("masks-{run}.safetensors"));
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
        let floor = if run == "wanda-50" { 0.998 } else { 0.99 };
        assert!(worst >= floor, "{run}: {agreement:?}");
        real.check_perplexity(run, pruned.dir.path(), 0.003);
    }
}

#[test]
fn dense_and_magnitude_perplexities_are_those_of_the_reference() {
    let Some(real) = Real::find() else { return };
    real.check_perplexity("dense", &real.model, 0.003);
    let pruned = prune_model(
        &real.model,
        Saliency::Magnitude,
        Sparsity::Ratio(0.5),
        &real.calibration,
    );
    real.check_perplexity("magnitude-50", pruned.dir.path(), 0.03);
}

#[test]
fn windows_drawn_from_the_text_are_those_of_the_reference() {
    let Some(real) = Real::find() else { return };
    let out = tempfile::tempdir().unwrap();
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
        "512",
        "--seed",
        "0",
        "--out",
        out.path().join("out").to_str().unwrap(),
    ]);
    let expected = &real.expected["recipe"]["calibration"]["window_ids_sha256_int64_le"];
    assert_eq!(&manifest["calibration"]["window_sha256"], expected);
    eprintln!(
        "prune: {} s, peak {} bytes",
        manifest["timings_s"]["pruning"], manifest["peak_rss_bytes"]
    );
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
