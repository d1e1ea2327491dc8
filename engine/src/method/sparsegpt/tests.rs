use proptest::prelude::*;

use crate::algebra::test_linear::{TestLinear, goal, half, on_any_threads};
use crate::pattern::Goal;

#[test]
fn hand_computed() {
    // G = [[2, 1], [1, 2]], λ = 0.02: H = [[2.02, 1], [1, 2.02]], H⁻¹ = [[2.02, -1], [-1, 2.02]] / 3.0804.
    // U₀₀² = H⁻¹₀₀, U₀₁ = H⁻¹₀₁ / U₀₀; U₁₁² = 1 / H₁₁. Scores of (1, 2): 3.0804 / 2.02 and 4 · 2.02.
    // The first one goes; the second becomes 2 - U₀₁ / U₀₀ = 2 + 1 / 2.02.
    let problem = TestLinear::new(&[1.0, 1.0, 1.0, 0.0, 0.0, 1.0], &[1.0, 2.0], 2);
    let (weights, chosen) = problem.prune("sparsegpt", half("unstructured"));
    assert_eq!(weights[0].to_bits(), 0);
    assert!(
        (f64::from(weights[1]) - (2.0 + 1.0 / 2.02)).abs() < 1e-5,
        "{weights:?}"
    );
    assert!(chosen.mask.contains(0, 0) && !chosen.mask.contains(0, 1));
    assert_eq!(chosen.damping_steps, 0);
}

#[test]
fn features_that_are_always_zero_lose_their_weights() {
    let tokens = [1.0, 0.0, 2.0, 0.0, 0.0, 1.0, 3.0, 0.0, 1.0];
    let problem = TestLinear::new(&tokens, &[1.0, 5.0, -2.0], 3);
    let (weights, _) = problem.prune("sparsegpt", goal("unstructured", 0.34));
    assert_eq!(weights[1].to_bits(), 0);
    assert!(weights[0] != 0.0 && weights[2] != 0.0, "{weights:?}");
}

#[test]
fn an_input_that_is_always_zero_leaves_nothing() {
    let problem = TestLinear::new(&[0.0; 8], &[1.0, 2.0, 3.0, 4.0], 4);
    let (weights, chosen) = problem.prune("sparsegpt", half("unstructured"));
    assert_eq!(weights, [0.0; 4]);
    assert_eq!((chosen.mask.count(), chosen.damping_steps), (2, 0));
}

#[test]
fn weights_that_are_not_finite_are_an_error() {
    for method in ["sparsegpt", "alps"] {
        for pattern in ["unstructured", "2:4"] {
            let problem = TestLinear::new(&[1.0; 8], &[1.0, f32::NAN, 2.0, 3.0], 4);
            let error = problem.try_prune(method, half(pattern)).unwrap_err();
            assert_eq!(error.to_string(), "non-finite values in weights of linear");
        }
    }
}

proptest! {
    /// Fewer tokens than features, several blocks of columns, the last one short.
    #[test]
    fn as_many_weights_become_zero_as_were_asked_for(
        d_out in 1usize..70,
        groups in 1usize..8,
        sparsity in 0.0f64..1.0,
        pattern in prop_oneof![Just("unstructured"), Just("2:4"), Just("1:8"), Just("4:5")],
        seed: u32,
    ) {
        let problem = TestLinear::random(d_out, 40 * groups, 20, seed);
        let goal = goal(pattern, sparsity);
        let (weights, chosen) = problem.prune("sparsegpt", goal);
        problem.check_mask(&chosen.mask, goal);
        let zeros = weights.iter().filter(|&&weight| weight == 0.0).count();
        prop_assert_eq!(chosen.mask.count(), zeros as u64);
    }
}

#[test]
fn it_is_the_same_for_any_number_of_threads() {
    let problem = TestLinear::random(90, 200, 300, 6);
    for pattern in ["unstructured", "2:4"] {
        on_any_threads(|| problem.prune("sparsegpt", half(pattern)));
    }
}

#[test]
fn counted_zeros_are_met_to_the_weight() {
    let problem = TestLinear::random(7, 150, 300, 3);
    for zeros in [0, 1, 333, 1049] {
        let goal = Goal {
            zeros: Some(zeros),
            ..goal("unstructured", 0.5)
        };
        for method in ["sparsegpt", "alps", "wanda", "magnitude", "ria"] {
            let (_, chosen) = problem.prune(method, goal);
            assert_eq!(chosen.mask.count(), zeros, "{method}");
        }
    }
}
