use super::*;
use crate::pattern::Pattern;

/// Two blocks of seven linears; inputs of 12 features, and of 20 within the feed-forward part.
fn plan() -> ModelPlan {
    let config = serde_json::json!({
        "architectures": [crate::model::ARCHITECTURES[0]], "model_type": "llama", "hidden_size": 12,
        "intermediate_size": 20, "num_hidden_layers": 2, "num_attention_heads": 2,
        "vocab_size": 32, "max_position_embeddings": 64,
    });
    ModelPlan::parse(config.to_string().as_bytes()).unwrap()
}

fn targets(pattern: &str, sparsity: f64, rules: &[&str]) -> Targets {
    Targets {
        goal: Goal {
            pattern: pattern.parse().unwrap(),
            sparsity,
        },
        rules: rules.iter().map(|rule| rule.parse().unwrap()).collect(),
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
    let goals = targets.goals(&plan()).unwrap();
    assert_eq!(goals.len(), 2);
    let of = |block: usize, linear: &str| {
        let linears = &plan().blocks[block].linears;
        let at = linears.iter().position(|it| it.name.ends_with(linear));
        goals[block][at.unwrap()]
    };
    let free = |sparsity| {
        let pattern = Pattern::Unstructured;
        Some(Goal { pattern, sparsity })
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
    assert!(targets.goals(&plan()).is_err());
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
