//! Experts that calibration hardly reaches, or not at all.

use candle_core::Device;
use serde_json::Value;

use super::*;
use crate::checkpoint::Checkpoint;
use crate::method::METHODS;
use crate::model::test_model::{examples, write_with};
use crate::pattern::ComparisonGroup;
use crate::refine::REFINEMENTS;

fn configs_with_experts() -> impl Iterator<Item = Value> {
    let configs = examples().into_iter();
    configs.filter(|config| {
        let plan = ModelPlan::parse(config.to_string().as_bytes()).unwrap();
        plan.blocks[0].feed_forward.mlps.router().is_some()
    })
}

/// Calls `work` with models whose experts are all equal to the router: the first two of four read every token.
fn with_unseen_experts(work: impl Fn(&Decoder<'_>)) {
    let mut count = 0;
    for config in configs_with_experts() {
        let dir = write_with(&config, |name, values| {
            let is_router = name.ends_with("moe.gate.weight") || name.ends_with("mlp.gate.weight");
            if is_router {
                vec![0.0; values.len()]
            } else {
                values
            }
        });
        let checkpoint = Checkpoint::open(dir.path()).unwrap();
        work(&Decoder::open(&checkpoint, &Device::Cpu).unwrap());
        count += 1;
    }
    assert_eq!(count, 2);
}

fn is_unseen(linear: &str) -> bool {
    linear.contains("experts.2.") || linear.contains("experts.3.")
}

fn recipes() -> Vec<Recipe> {
    let mut recipes = Vec::new();
    for method in METHODS {
        for refine in std::iter::once(None).chain(REFINEMENTS.map(Some)) {
            for refit in [false, true] {
                for propagation in Propagation::ALL {
                    recipes.push(Recipe {
                        method,
                        group: None,
                        refine,
                        refit,
                        propagation,
                    });
                }
            }
        }
    }
    recipes.retain(|recipe| recipe.needs_calibration() && recipe.contradiction().is_none());
    recipes
}

struct PrunedModel {
    outcomes: Vec<LinearOutcome>,
    dir: tempfile::TempDir,
}

impl PrunedModel {
    fn of(decoder: &Decoder<'_>, recipe: Recipe, pattern: &str, windows: &TokenWindows) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let target = PrunedCopy::create(decoder.checkpoint(), dir.path()).unwrap();
        let options = PruneOptions {
            recipe,
            targets: &Targets::from(Goal::new(pattern.parse().unwrap(), 0.5)),
            windows: Some(windows),
            resume_state: None,
        };
        let outcomes = prune(decoder, &target, &options, &mut crate::Silent).unwrap();
        Self { outcomes, dir }
    }

    fn weights(&self, linear: &LinearSpec) -> Vec<f32> {
        let checkpoint = Checkpoint::open(self.dir.path()).unwrap();
        checkpoint.read(&linear.weight()).unwrap().into_f32()
    }
}

/// The lower half of each row or of the whole linear zeroed.
fn half_by_magnitude(mut weights: Vec<f32>, width: usize) -> Vec<f32> {
    for group in weights.chunks_mut(width) {
        let mut order: Vec<usize> = (0..group.len()).collect();
        order.sort_by(|&a, &b| group[a].abs().total_cmp(&group[b].abs()));
        for &at in &order[..group.len() / 2] {
            group[at] = 0.0;
        }
    }
    weights
}

#[test]
fn experts_without_tokens_are_pruned_by_magnitude_whatever_the_recipe() {
    with_unseen_experts(|decoder| {
        let windows = TokenWindows::new((0..48).map(|i| i * i % 251).collect(), 16).unwrap();
        for recipe in recipes() {
            let is_alone = recipe == Recipe::from(recipe.method);
            let patterns = ["unstructured", "2:4"]
                .into_iter()
                .take(1 + usize::from(is_alone));
            for pattern in patterns {
                let result = PrunedModel::of(decoder, recipe, pattern, &windows);
                let linears = decoder.plan().linears();
                assert_eq!(result.outcomes.len(), decoder.plan().linears().count());
                for (linear, outcome) in linears.zip(&result.outcomes) {
                    let weights = result.weights(linear);
                    let name = format!("{recipe}, {pattern}: {}", linear.name);
                    assert!(weights.iter().all(|w| w.is_finite()), "{name}");
                    if !is_unseen(&linear.name) {
                        assert_eq!(outcome.input_tokens, 48, "{name}");
                        continue;
                    }
                    assert_eq!(outcome.input_tokens, 0, "{name}");
                    assert!(
                        outcome.layer_error.is_none_or(|error| error == 0.0),
                        "{name}"
                    );
                    let width = match (pattern, recipe.method.group()) {
                        ("2:4", _) => 4,
                        (_, Some(ComparisonGroup::Row)) => linear.d_in,
                        _ => weights.len(),
                    };
                    let dense = decoder.checkpoint().read(&linear.weight()).unwrap();
                    let expected = half_by_magnitude(dense.into_f32(), width);
                    assert!(weights == expected, "{name}");
                }
            }
        }
    });
}

#[test]
fn experts_with_few_tokens_are_pruned_by_every_recipe() {
    let windows = TokenWindows::new(vec![5, 9], 2).unwrap();
    for config in configs_with_experts() {
        let dir = write_with(&config, |_, values| values);
        let checkpoint = Checkpoint::open(dir.path()).unwrap();
        let decoder = Decoder::open(&checkpoint, &Device::Cpu).unwrap();
        for recipe in recipes() {
            let result = PrunedModel::of(&decoder, recipe, "unstructured", &windows);
            let tokens: Vec<u64> = result.outcomes.iter().map(|o| o.input_tokens).collect();
            assert!(tokens.contains(&1), "{recipe}: {tokens:?}");
            for linear in decoder.plan().linears() {
                let weights = result.weights(linear);
                let name = format!("{recipe}: {}", linear.name);
                assert!(weights.iter().all(|w| w.is_finite()), "{name}");
                let zeros = weights.iter().filter(|w| **w == 0.0).count();
                assert!(zeros >= weights.len() / 2, "{name}");
            }
        }
    }
}

#[test]
fn what_no_token_reached_is_known_after_a_stop() {
    with_unseen_experts(|decoder| {
        let (out, work) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let state = ResumeState::open(work.path(), "same", "f32").unwrap();
        let run = |stops| {
            let (state, mut watch) = (Some(&state), Watch::new(decoder, stops));
            let ended = run(
                decoder,
                out.path(),
                Propagation::Pruned,
                0.5,
                state,
                &mut watch,
            );
            (ended, watch.resumed)
        };
        assert!(matches!(run(true).0, Err(EngineError::Stopped)));
        let (outcomes, resumed) = run(false);
        assert!(resumed);
        for (linear, outcome) in decoder.plan().linears().zip(outcomes.unwrap()) {
            assert_eq!(
                outcome.input_tokens == 0,
                is_unseen(&linear.name),
                "{}",
                linear.name
            );
        }
    });
}

#[test]
fn experts_that_no_token_is_sent_to_are_not_read() {
    with_unseen_experts(|decoder| {
        let windows = windows();
        let ropes = decoder.ropes(32).unwrap();
        let layout = TokenLayout::Windows(32);
        let context = BlockContext {
            ropes: &ropes,
            layout,
        };
        let x = decoder.embed(&windows.ids()[..32], layout).unwrap();
        let block = decoder.block(0).unwrap();
        block.forward(&x, &context).unwrap();
        for (id, linear) in (0..).zip(&block.plan().linears) {
            let id = crate::model::LinearId(id);
            assert_eq!(
                block.is_read(id),
                !is_unseen(&linear.name),
                "{}",
                linear.name
            );
        }
    });
}
