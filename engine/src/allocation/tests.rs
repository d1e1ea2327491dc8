use candle_core::{Device, Tensor};
use proptest::prelude::*;

use super::*;
use crate::checkpoint::Checkpoint;
use crate::model::ModelPlan;
use crate::statistic::BlockStatistics;

fn spec(text: &str) -> AllocationSpec {
    text.parse().unwrap()
}

fn of(text: &str, measured: &[f64], sparsity: f64) -> Vec<f64> {
    let spec = spec(text);
    spec.kind.sparsities(measured, sparsity, &spec).unwrap()
}

fn assert_near(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() < 1e-12, "{found}, {expected}");
    }
}

#[test]
fn hand_computed_sparsities() {
    // t = 0, 0.08, 0.16, with the mean 0.08.
    assert_near(&of("owl", &[1.0, 2.0, 3.0], 0.7), &[0.78, 0.7, 0.62]);
    assert_near(&of("owl,lambda=0.2", &[5.0, 1.0], 0.5), &[0.3, 0.7]);
    assert_near(&of("owl", &[2.0, 2.0], 0.5), &[0.5, 0.5]);
    // Importances 0.9, 0.7, 0.4: t = 0.3, 0.18, 0, with the mean 0.16.
    assert_near(&of("dlp", &[1.0, 3.0, 6.0], 0.6), &[0.46, 0.58, 0.76]);
    let uniform = AllocationSpec::default();
    assert_eq!(uniform.kind.sparsities(&[1.0], 0.5, &uniform), None);
}

#[test]
fn an_allocation_is_read_as_it_is_written() {
    let owl = spec("owl,threshold=5");
    assert_eq!(
        owl.to_string(),
        "owl,lambda=0.08,max_sparsity=0.99,min_sparsity=0,threshold=5"
    );
    let table = AllocationSpec::listed(vec![0.25, 0.5]).unwrap();
    for spec in [owl, spec("uniform"), spec("dlp,alpha=0.1"), table] {
        let json = serde_json::to_string(&spec).unwrap();
        assert_eq!(
            serde_json::from_str::<AllocationSpec>(&json).unwrap(),
            spec,
            "{json}"
        );
        assert_eq!(spec.contradiction(), None);
    }
    for (text, reason) in [
        ("owls", "unknown allocation"),
        (
            "owl,m=5",
            "owl takes no \"m=5\"; expected NAME=NUMBER of threshold",
        ),
        ("owl,lambda=few", "owl takes no"),
        (
            "owl,lambda=0.9",
            "owl takes as lambda a number within 0 and 0.5",
        ),
        (
            "dlp,min_sparsity=0.6,max_sparsity=0.5",
            "min_sparsity is above max_sparsity",
        ),
        ("table", "table takes as sparsities a list of fractions"),
    ] {
        let error = text.parse::<AllocationSpec>().unwrap_err();
        assert!(error.contains(reason), "{text}: {error}");
    }
}

#[test]
fn a_table_must_be_of_the_model_and_of_the_sparsity() {
    let misfit = |list: &[f64]| {
        let spec = AllocationSpec::listed(list.to_vec()).unwrap();
        let misfit = spec.kind.misfit(&[100, 300], 0.5, &spec);
        misfit.map(|(parameter, reason)| {
            assert_eq!(parameter, "sparsities");
            reason
        })
    };
    assert_eq!(misfit(&[0.8, 0.4]), None);
    assert!(
        misfit(&[0.5])
            .unwrap()
            .contains("lists 1 sparsities, the model has 2")
    );
    assert!(
        misfit(&[0.8, 0.5])
            .unwrap()
            .contains("0.5750 of all weights")
    );
}

#[test]
fn rounding_and_limits_do_not_change_the_sum() {
    let share = |wanted: &[f64], weights: &[u64], limits, total| {
        budget::share(wanted, weights, &limits, total)
    };
    assert_eq!(
        share(&[0.5, 0.5, 0.5], &[3, 3, 3], 0.0..=1.0, 4).unwrap(),
        [2, 1, 1]
    );
    assert_eq!(
        share(&[0.9, 0.1], &[10, 10], 0.0..=0.8, 10).unwrap(),
        [8, 2]
    );
    assert_eq!(
        share(&[0.9, 0.1], &[10, 30], 0.0..=1.0, 12).unwrap(),
        [9, 3]
    );
    assert_eq!(share(&[0.5, 0.5], &[10, 0], 0.0..=1.0, 5).unwrap(), [5, 0]);
    assert_eq!(share(&[0.9, 0.1], &[10, 10], 0.6..=1.0, 10), None);
    assert_eq!(share(&[0.9, 0.1], &[10, 10], 0.0..=0.4, 10), None);
}

proptest! {
    #[test]
    fn a_budget_is_met_to_the_weight_and_within_the_limits(
        parts in proptest::collection::vec((-0.5f64..1.5, 0u64..100_000), 1..40),
        sparsity in 0.0f64..1.0,
        (least, most) in (0.0f64..0.6, 0.3f64..1.0),
    ) {
        let (wanted, weights): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
        let all: u64 = weights.iter().sum();
        let total = crate::pattern::zeros_of(usize::try_from(all).unwrap(), sparsity) as u64;
        let limits = least..=most;
        let lowest = |weights: &u64| (*weights as f64 * least).ceil();
        let highest = |weights: &u64| (*weights as f64 * most).floor();
        let least: f64 = weights.iter().map(lowest).sum();
        let most: f64 = weights.iter().map(highest).sum();
        let is_possible = weights.iter().all(|it| lowest(it) <= highest(it))
            && (least..=most).contains(&(total as f64));
        let zeros = budget::share(&wanted, &weights, &limits, total);
        prop_assert_eq!(zeros.is_some(), is_possible);
        let Some(zeros) = zeros else { return Ok(()) };
        prop_assert_eq!(zeros.iter().sum::<u64>(), total);
        for (zeros, weights) in zeros.iter().zip(&weights) {
            let zeros = *zeros as f64;
            prop_assert!(lowest(weights) <= zeros && zeros <= highest(weights));
        }
    }
}

/// Scores of a block of one token, counted one by one.
#[test]
fn scores_of_a_block_are_those_of_its_linears_together() {
    let dir = tempfile::tempdir().unwrap();
    let (plan, checkpoint) = tiny_model(dir.path());
    let block = &plan.blocks[0];
    let mut seen = BlockStatistics::collecting(spec("owl").kind.needs(), block, 1);
    for (input, &width) in block.input_ids().zip(&block.inputs) {
        let x: Vec<f32> = (0..width).map(|j| 1.0 + j as f32).collect();
        let x = Tensor::from_vec(x, (1, width), &Device::Cpu).unwrap();
        seen.add(input, &x, None).unwrap();
    }
    let mut scores = Vec::new();
    for linear in &block.linears {
        let weights = checkpoint.read(&linear.weight()).unwrap().into_f32();
        let each = weights.iter().enumerate();
        scores.extend(each.map(|(at, w)| f64::from(w.abs() * (1.0 + (at % linear.d_in) as f32))));
    }
    let mean = scores.iter().sum::<f64>() / scores.len() as f64;
    let above = |m: f64| scores.iter().filter(|score| **score > m * mean).count();
    let dense = DenseBlock {
        checkpoint: &checkpoint,
        plan: block,
        seen: &seen,
    };
    let measure = |text: &str| {
        let spec = spec(text);
        spec.kind.measure(&dense, &spec).unwrap()
    };
    assert_near(&[measure("dlp") / mean], &[1.0]);
    for m in [0.5, 1.5] {
        let percent = 100.0 * above(m) as f64 / scores.len() as f64;
        assert_near(&[measure(&format!("owl,threshold={m}"))], &[percent]);
    }
}

/// One block of random weights.
fn tiny_model(dir: &std::path::Path) -> (ModelPlan, Checkpoint) {
    let config = serde_json::json!({
        "architectures": [crate::model::ARCHITECTURES[0]], "model_type": "llama", "hidden_size": 8,
        "intermediate_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2,
        "vocab_size": 16, "max_position_embeddings": 64,
    });
    let config = config.to_string();
    std::fs::write(dir.join("config.json"), &config).unwrap();
    let plan = ModelPlan::parse(config.as_bytes()).unwrap();
    let linears = plan.linears().map(|linear| {
        let shape = (linear.d_out, linear.d_in);
        let tensor = Tensor::randn(0f32, 1.0, shape, &Device::Cpu).unwrap();
        (linear.weight(), tensor)
    });
    let tensors: std::collections::HashMap<_, _> = linears.collect();
    candle_core::safetensors::save(&tensors, dir.join("model.safetensors")).unwrap();
    (plan, Checkpoint::open(dir).unwrap())
}
