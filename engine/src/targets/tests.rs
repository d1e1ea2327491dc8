use proptest::prelude::*;

use super::*;
use crate::checkpoint::Weights;
use crate::pattern::{ComparisonGroup, Pattern, Score, choose, zeros_of};

/// Two blocks of seven linears; inputs of 12 features, and of 20 within the feed-forward part.
fn plan() -> ModelPlan {
    plan_of(2, 12, 20)
}

fn plan_of(blocks: usize, hidden: usize, intermediate: usize) -> ModelPlan {
    let config = serde_json::json!({
        "architectures": [crate::model::ARCHITECTURES[0]], "model_type": "llama", "hidden_size": hidden,
        "intermediate_size": intermediate, "num_hidden_layers": blocks, "num_attention_heads": 2,
        "vocab_size": 32, "max_position_embeddings": 64,
    });
    ModelPlan::parse(config.to_string().as_bytes()).unwrap()
}

fn targets(pattern: &str, sparsity: f64, rules: &[&str]) -> Targets {
    Targets {
        goal: Goal::new(pattern.parse().unwrap(), sparsity),
        rules: rules.iter().map(|rule| rule.parse().unwrap()).collect(),
        allocation: AllocationSpec::default(),
    }
}

fn misfits(targets: &Targets) -> Vec<(String, String)> {
    let misfits = targets.misfits(&plan()).into_iter();
    misfits
        .map(|misfit| (misfit.part, misfit.error.to_string()))
        .collect()
}

#[test]
fn the_first_rule_that_matches_counts() {
    let rules = [r"layers\.0\..*down", "down_proj$=dense", "self_attn=2:4"];
    let rules = [&format!("{}=0.25", rules[0]), rules[1], rules[2]];
    let targets = targets("unstructured", 0.5, &rules);
    let goals = targets.goals(&plan(), None).unwrap();
    assert_eq!(goals.len(), 2);
    let of = |block: usize, linear: &str| {
        let linears = &plan().blocks[block].linears;
        let at = linears.iter().position(|it| it.name.ends_with(linear));
        goals[block][at.unwrap()]
    };
    let free = |sparsity| {
        let pattern = Pattern::Unstructured;
        Some(Goal::new(pattern, sparsity))
    };
    assert_eq!(of(0, "down_proj"), free(0.25));
    assert_eq!(of(1, "down_proj"), None);
    assert_eq!(of(1, "up_proj"), free(0.5));
    assert_eq!(of(0, "k_proj").unwrap().pattern.to_string(), "2:4");
    let plan = plan();
    let named = targets.linears_by_rule(&plan).unwrap();
    assert_eq!(named.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1, 8]);
    assert_eq!(named[0], ["model.layers.0.mlp.down_proj"]);
}

#[test]
fn a_rule_that_no_linear_goes_by_is_refused() {
    let targets = targets(
        "unstructured",
        0.5,
        &["lm_head=dense", "mlp=0.3", "up_proj=0.4"],
    );
    let found = misfits(&targets);
    assert_eq!(found[0].0, "rules/0/match");
    assert!(
        found[0].1.contains("`lm_head=dense`: it matches no linear"),
        "{found:?}"
    );
    assert_eq!(found[1].0, "rules/2/match");
    assert!(
        found[1].1.contains("an earlier rule has every linear"),
        "{found:?}"
    );
    assert_eq!(found.len(), 2);
    assert!(targets.goals(&plan(), None).is_err());
}

#[test]
fn a_pattern_must_fit_the_linears_that_go_by_it_and_no_others() {
    // Only the inputs of the feed-forward part are a multiple of five wide.
    assert!(misfits(&targets("unstructured", 0.5, &["down_proj=2:5"])).is_empty());
    let found = misfits(&targets("unstructured", 0.5, &["_proj=2:5"]));
    assert_eq!(found[0].0, "rules/0/pattern");
    let found = misfits(&targets("2:5", 0.6, &["down_proj=0.1"]));
    assert_eq!(found[0].0, "pattern");
    assert!(
        found[0].1.contains("model.layers.0.self_attn.q_proj"),
        "{found:?}"
    );
    assert!(misfits(&targets("2:5", 0.6, &["self_attn|gate|up=dense"])).is_empty());
}

fn owl(sparsity: f64, rules: &[&str]) -> Targets {
    Targets {
        allocation: "owl,max_sparsity=0.9".parse().unwrap(),
        ..targets("unstructured", sparsity, rules)
    }
}

#[test]
fn zeros_of_blocks_are_divided_among_the_linears_that_no_rule_names() {
    let targets = owl(0.5, &["down_proj=2:5", r"1\..*q_proj=dense"]);
    let zeros = targets.shared(&plan(), &[1.0, 2.0]).unwrap().unwrap();
    // 4 · 144 + 2 · 240 weights; 144 fewer in the second block. The first one has fewer outliers.
    assert_eq!(zeros.iter().sum::<u64>(), 984);
    assert!(zeros[0] * 912 > zeros[1] * 1056, "{zeros:?}");
    let goals = targets.goals(&plan(), Some(&zeros)).unwrap();
    for (block, goals) in goals.iter().enumerate() {
        let counted = goals.iter().flatten().filter_map(|goal| goal.zeros);
        assert_eq!(counted.sum::<u64>(), zeros[block]);
    }
    assert_eq!(goals[1][0], None);
    assert_eq!(goals[0][6].unwrap().zeros, None);
    assert!(
        goals[0][0]
            .unwrap()
            .zeros
            .unwrap()
            .abs_diff(144 * zeros[0] / 1056)
            <= 1
    );
}

#[test]
fn an_allocation_that_cannot_be_met_is_refused_by_name() {
    let only = |targets: &Targets| {
        let found = misfits(targets);
        assert_eq!(found.len(), 1, "{found:?}");
        found.into_iter().next().unwrap()
    };
    let (part, reason) = only(&owl(0.95, &[]));
    assert_eq!(part, "allocation");
    assert!(
        reason.contains("the allocation owl: blocks of a sparsity within 0 and 0.9"),
        "{reason}"
    );
    let (part, reason) = only(&owl(0.5, &["_proj=dense"]));
    assert_eq!(part, "allocation");
    assert!(reason.contains("the rules name every linear"), "{reason}");
    let table = |list: &[f64]| Targets {
        allocation: AllocationSpec::listed(list.to_vec()).unwrap(),
        ..targets("unstructured", 0.5, &[])
    };
    assert_eq!(only(&table(&[0.5; 3])).0, "allocation/sparsities");
    assert_eq!(only(&table(&[0.5, 0.6])).0, "allocation/sparsities");
    assert!(misfits(&table(&[0.4, 0.6])).is_empty());
    let two_of_four = Targets {
        allocation: "dlp".parse().unwrap(),
        ..targets("2:4", 0.5, &[])
    };
    let contradiction = two_of_four.contradiction().unwrap();
    assert_eq!(contradiction.part, "allocation");
    assert_eq!(targets("2:4", 0.5, &[]).contradiction(), None);
}

/// Scores that are all over the place, with ties.
struct Scattered(u32);

impl Score for Scattered {
    fn fill(&self, row: usize, column: usize, weights: &[f32], scores: &mut [f32]) {
        for (at, score) in scores.iter_mut().enumerate().take(weights.len()) {
            let mixed = u32::try_from(row * 7919 + (column + at) * 104_729).unwrap() ^ self.0;
            *score = (mixed.wrapping_mul(2_654_435_761) >> 24) as f32;
        }
    }
}

proptest! {
    #[test]
    fn the_zeros_of_a_model_are_as_many_as_were_asked_for(
        (blocks, hidden, intermediate) in (1usize..5, 1usize..5, 1usize..8),
        sparsity in 0.0f64..0.9,
        allocation in prop_oneof![Just("owl"), Just("dlp"), Just("owl,lambda=0.3,threshold=5")],
        rules in prop_oneof![
            Just(&[] as &[&str]), Just(&["down_proj=dense"] as &[_]), Just(&["q_proj=2:4", "mlp.up=0.3"] as &[_]),
            Just(&[r"layers\.0\.=dense", "v_proj=1:4"] as &[_]),
        ],
        measured in proptest::collection::vec(0.1f64..10.0, 4),
        among in prop_oneof![Just(ComparisonGroup::Row), Just(ComparisonGroup::Linear)],
        seed: u32,
    ) {
        let plan = plan_of(blocks, 4 * hidden, 4 * intermediate);
        let targets = Targets {
            allocation: allocation.parse().unwrap(),
            ..targets("unstructured", sparsity, rules)
        };
        if blocks == 1 && rules.len() == 2 && rules[1] == "v_proj=1:4" {
            prop_assert!(!targets.misfits(&plan).is_empty(), "no linear is left for the last rule");
            return Ok(());
        }
        let zeros = targets.shared(&plan, &measured[..blocks]).unwrap();
        let goals = targets.goals(&plan, zeros.as_deref()).unwrap();
        let (mut weights, mut found) = (0, 0);
        for (linear, goal) in plan.linears().zip(goals.into_iter().flatten()) {
            let Some(goal) = goal else { continue };
            let values = Weights::F32(vec![1.0; linear.d_out * linear.d_in]);
            let mask = choose(&values, linear.d_in, goal, among, &Scattered(seed)).unwrap();
            match goal.zeros {
                Some(zeros) => {
                    prop_assert_eq!(mask.count(), zeros);
                    weights += linear.weights();
                    found += zeros;
                }
                None => prop_assert!(targets.linears_by_rule(&plan).unwrap().concat().contains(&&*linear.name)),
            }
        }
        prop_assert_eq!(found, zeros_of(usize::try_from(weights).unwrap(), sparsity) as u64);
    }
}
