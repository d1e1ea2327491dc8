//! What is asked of linears by their names and of blocks, counted in what is delivered.

use secateur::engine::{Checkpoint, ModelPlan, Propagation, Recipe, Targets, TokenWindows};

use crate::engine::reference::{half, method, prune_model, weights};
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
            let share = match linear.name.as_str() {
                name if name.contains("layers.0.") => 0.0,
                name if name.ends_with("down_proj") => 0.25,
                name if name.contains("self_attn") => 0.75,
                _ => 0.5,
            };
            let name = &linear.name;
            assert_eq!(
                zeros(&after) as f64,
                share * after.len() as f64,
                "{recipe}: {name}"
            );
            if share == 0.0 {
                let before = source.read(&linear.weight()).unwrap().into_f32();
                assert!(after == before, "{recipe}: {name}");
            }
            if let Some(outcome) = pruned.outcomes.get(name) {
                assert_eq!(outcome.layer_error == 0.0, share == 0.0, "{recipe}: {name}");
            }
        }
    }
}
