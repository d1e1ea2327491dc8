//! What is asked of linears by their names and of blocks, counted in what is delivered.

use std::path::Path;

use candle_core::Device;
use secateur::engine::{
    AllocationSpec, Checkpoint, Decoder, ModelPlan, Observer, PassProgress, Propagation,
    PruneOptions, PrunedCopy, Recipe, ResumeState, Silent, Targets, TokenWindows, prune,
};

use crate::engine::reference::{
    Tensors, assert_close, half, method, prune_model, reference_dir, weights,
};
use crate::support::synthetic::{Shape, write_model};

const TINY: Shape = Shape {
    hidden: 64,
    intermediate: 96,
    blocks: 3,
    vocab: 128,
};

fn tiny_model() -> (tempfile::TempDir, ModelPlan) {
    let dir = tempfile::tempdir().unwrap();
    write_model(dir.path(), TINY);
    let plan = ModelPlan::read(dir.path()).unwrap();
    (dir, plan)
}

fn tiny_windows() -> TokenWindows {
    TokenWindows::new((0..32 * 16).map(|i| i * i % 127).collect(), 32).unwrap()
}

fn zeros(weights: &[f32]) -> usize {
    weights.iter().filter(|weight| **weight == 0.0).count()
}

#[test]
fn rules_reach_their_linears_and_no_others() {
    let (model, plan) = tiny_model();
    let source = Checkpoint::open(model.path()).unwrap();
    let rules = [r"layers\.0\.=dense", "down_proj$=0.25", "self_attn=1:4"];
    let targets = Targets {
        rules: rules.map(|rule| rule.parse().unwrap()).into(),
        ..half("unstructured").into()
    };
    for recipe in [
        Recipe::from(method("wanda")),
        method("magnitude").into(),
        Recipe {
            refit: true,
            propagation: Propagation::Paired,
            ..method("sparsegpt").into()
        },
    ] {
        let pruned = prune_model(model.path(), recipe, targets.clone(), &tiny_windows());
        for linear in plan.linears() {
            let after = weights(pruned.dir.path(), &linear.name);
            let quarters = match linear.name.as_str() {
                name if name.contains("layers.0.") => 0,
                name if name.ends_with("down_proj") => 1,
                name if name.contains("self_attn") => 3,
                _ => 2,
            };
            let name = &linear.name;
            assert_eq!(
                4 * zeros(&after),
                quarters * after.len(),
                "{recipe}: {name}"
            );
            if quarters == 0 {
                let before = source.read(&linear.weight()).unwrap().into_f32();
                assert!(after == before, "{recipe}: {name}");
            }
            let outcome = pruned.outcomes.get(name);
            if let Some(error) = outcome.and_then(|outcome| outcome.layer_error) {
                assert_eq!(error > 0.0, quarters > 0, "{recipe}: {name}");
            }
        }
    }
}

fn owl(rules: &[&str]) -> Targets {
    Targets {
        allocation: "owl".parse().unwrap(),
        rules: rules.iter().map(|rule| rule.parse().unwrap()).collect(),
        ..half("unstructured").into()
    }
}

#[test]
fn zeros_that_are_shared_among_blocks_are_as_many_as_were_asked_for() {
    let (model, plan) = tiny_model();
    for (name, rules) in [
        ("wanda", &[][..]),
        ("magnitude", &["down_proj=dense"]),
        ("sparsegpt", &["q_proj=2:4"]),
    ] {
        let pruned = prune_model(model.path(), method(name), owl(rules), &tiny_windows());
        let mut shares = Vec::new();
        let (mut all_zeros, mut all_weights) = (0, 0);
        for block in &plan.blocks {
            let rules = owl(rules).rules;
            let is_free = |name: &str| !rules.iter().any(|rule| name.ends_with(&rule.expression));
            let free = block.linears.iter().filter(|linear| is_free(&linear.name));
            let (mut of_zeros, mut of_weights) = (0, 0);
            for linear in free {
                let after = weights(pruned.dir.path(), &linear.name);
                of_zeros += zeros(&after);
                of_weights += after.len();
            }
            shares.push(of_zeros as f64 / of_weights as f64);
            all_zeros += of_zeros;
            all_weights += of_weights;
        }
        assert_eq!(all_zeros, all_weights / 2, "{name}");
        shares.sort_by(f64::total_cmp);
        assert_close(shares[2] - shares[0], 0.16, 1e-3, name);
    }
}

/// Stops the first pass over the model after so many tokens; counts those of a later one.
struct StopAfter(u64, Option<u64>);

impl Observer for StopAfter {
    fn progress(&mut self, progress: PassProgress) {
        self.1 = Some(progress.tokens);
    }

    fn needs_state(&self, _blocks: usize) -> bool {
        true
    }

    fn should_stop(&self) -> bool {
        self.1.is_some_and(|tokens| tokens >= self.0)
    }
}

#[test]
fn the_shares_of_blocks_are_measured_once_and_go_with_the_saved_state() {
    let (model, _) = tiny_model();
    let (windows, targets) = (tiny_windows(), owl(&[]));
    let whole = prune_model(model.path(), method("wanda"), targets.clone(), &windows);
    let work = tempfile::tempdir().unwrap();
    let state = ResumeState::open(&work.path().join("state"), "same", "f32").unwrap();
    let source = Checkpoint::open(model.path()).unwrap();
    let decoder = Decoder::open(&source, &Device::Cpu).unwrap();
    let out = work.path().join("out");
    std::fs::create_dir(&out).unwrap();
    let options = PruneOptions {
        recipe: method("wanda").into(),
        targets: &targets,
        windows: Some(&windows),
        resume_state: Some(&state),
    };
    let of_pass = windows.n_tokens() as u64 * 5;
    let target = PrunedCopy::create(&source, &out).unwrap();
    let mut stop = StopAfter(of_pass + 3 * windows.n_tokens() as u64, None);
    assert!(prune(&decoder, &target, &options, &mut stop).is_err());
    assert_eq!(state.next_block(), Some(1));
    let saved = std::fs::read_to_string(work.path().join("state/state.json")).unwrap();
    assert!(saved.contains("\"zeros\":["), "{saved}");

    let target = PrunedCopy::reopen(&source, &out).unwrap().unwrap();
    let mut resumed = StopAfter(u64::MAX, None);
    prune(&decoder, &target, &options, &mut resumed).unwrap();
    assert_eq!(
        resumed.1,
        Some(of_pass),
        "the dense model is not passed again"
    );
    let same = |dir: &Path| std::fs::read(dir.join("model.safetensors")).unwrap();
    assert!(same(&out) == same(whole.dir.path()));
}

/// Ratios, sparsities and masks of the original; it rounds down in each row, as rules do.
#[test]
fn owl_is_that_of_the_original() {
    let Some(dir) = reference_dir() else { return };
    for name in ["tiny-random", "tiny-trained"] {
        let model = dir.join(name);
        let windows = Tensors::read(&model.join("calib_ids.safetensors")).windows("input_ids");
        let golden = Tensors::read(&dir.join(format!("methods/{name}.safetensors")));
        let json = std::fs::read(dir.join(format!("methods/{name}.json"))).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        let source = Checkpoint::open(&model).unwrap();
        let decoder = Decoder::open(&source, &Device::Cpu).unwrap();
        for (run, spec) in [
            ("owl-70", "owl,threshold=3"),
            ("owl-70-m5", "owl,threshold=5"),
        ] {
            let spec: AllocationSpec = spec.parse().unwrap();
            let measured = spec.measure(&decoder, &windows, &mut Silent).unwrap();
            let expected = |field: &str| numbers(&json["owl"][run][field]);
            for (found, expected) in measured.iter().zip(expected("outlier_ratio_percent")) {
                assert_close(*found, expected, 1e-9, run);
            }
            let sparsities = spec.kind.sparsities(&measured, 0.7, &spec).unwrap();
            for (found, expected) in sparsities.iter().zip(expected("block_sparsity")) {
                assert_close(*found, expected, 1e-12, run);
            }
            let rules = expected("block_sparsity").into_iter().enumerate();
            let rules = rules.map(|(block, share)| format!(r"layers\.{block}\.={share}"));
            let targets = Targets {
                rules: rules.map(|rule| rule.parse().unwrap()).collect(),
                ..half("unstructured").into()
            };
            let pruned = prune_model(&model, method("wanda"), targets, &windows);
            for linear in decoder.plan().linears() {
                let mask = golden.bytes(&format!("{run}/mask/{}", linear.name));
                let after = weights(pruned.dir.path(), &linear.name);
                let pairs = after.iter().zip(mask);
                let differing = pairs.filter(|(weight, bit)| (**weight == 0.0) != (**bit == 1));
                assert_eq!(differing.count(), 0, "{run}: {}", linear.name);
            }
        }
    }
}

/// Thirty blocks, where the formula shows.
#[test]
fn owl_gives_the_blocks_of_a_real_model_the_sparsities_of_the_original() {
    let Some(dir) = reference_dir() else { return };
    let json = std::fs::read(dir.join("methods/smollm2.json")).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    for run in ["M=3", "M=5"] {
        let golden = &json["owl_ratios"][run];
        let owl: AllocationSpec = "owl".parse().unwrap();
        let ratios = numbers(&golden["outlier_ratio_percent"]);
        let found = owl.kind.sparsities(&ratios, 0.7, &owl).unwrap();
        let expected = numbers(&golden["block_sparsity_at_70"]);
        assert_eq!(found.len(), 30);
        for (found, expected) in found.iter().zip(expected) {
            assert_close(*found, expected, 1e-12, run);
        }
    }
}

fn numbers(list: &serde_json::Value) -> Vec<f64> {
    serde_json::from_value(list.clone()).unwrap()
}
