use proptest::prelude::*;

use crate::algebra::test_linear::{TestLinear, goal, half, on_any_threads};

#[test]
fn features_alone_are_chosen_by_magnitude_and_keep_their_weights() {
    // G = I: nothing can make up for anything, and the best support is that of |w|.
    let tokens: Vec<f32> = (0..16)
        .map(|i| if i % 5 == 0 { 1.0 } else { 0.0 })
        .collect();
    let problem = TestLinear::new(&tokens, &[3.0, -1.0, 0.5, 2.0], 4);
    let (weights, _) = problem.prune("alps", half("unstructured"));
    for (weight, expected) in weights.iter().zip([3.0, 0.0, 0.0, 2.0]) {
        assert!((weight - expected).abs() < 1e-5, "{weights:?}");
    }
}

#[test]
fn its_error_is_below_that_of_sparsegpt() {
    for (seed, goal) in [
        (1, goal("unstructured", 0.5)),
        (2, goal("2:4", 0.5)),
        (3, goal("unstructured", 0.7)),
        (4, goal("1:4", 0.75)),
    ] {
        let problem = TestLinear::random(24, 64, 400, seed);
        let lost = |method| problem.lost(&problem.prune(method, goal).0);
        let (alps, sparsegpt) = (lost("alps"), lost("sparsegpt"));
        assert!(alps < 0.95 * sparsegpt, "{goal:?}: {alps}, {sparsegpt}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn as_many_weights_become_zero_as_were_asked_for(
        d_out in 1usize..20,
        groups in 1usize..6,
        sparsity in 0.0f64..1.0,
        pattern in prop_oneof![Just("unstructured"), Just("2:4"), Just("1:5")],
        n_tokens in 1usize..80,
        seed: u32,
    ) {
        let problem = TestLinear::random(d_out, 20 * groups, n_tokens, seed);
        let goal = goal(pattern, sparsity);
        let (weights, chosen) = problem.prune("alps", goal);
        prop_assert!(weights.iter().all(|weight| weight.is_finite()));
        problem.check_mask(&chosen.mask, goal);
    }
}

#[test]
fn where_the_input_is_always_zero_magnitude_decides() {
    let problem = TestLinear::new(&[0.0; 8], &[3.0, -1.0, 0.5, 2.0], 4);
    let (weights, _) = problem.prune("alps", half("unstructured"));
    assert_eq!(weights, [3.0, 0.0, 0.0, 2.0]);
}

#[test]
fn it_is_the_same_for_any_number_of_threads() {
    let problem = TestLinear::random(150, 100, 300, 5);
    on_any_threads(|| problem.prune("alps", half("unstructured")));
}
