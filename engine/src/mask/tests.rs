//! The ladder: by hand, against a stable sort, and properties.

use half::{bf16, f16};
use proptest::prelude::*;

use super::*;

fn pruned(values: &[f32], d_in: usize, norms: Option<&[f32]>, sparsity: Sparsity) -> Vec<f32> {
    let mut weights = Weights::F32(values.to_vec());
    prune_weights(&mut weights, d_in, norms, sparsity).unwrap();
    weights.into_f32()
}

fn bytes_of(values: &[f32]) -> &[u8] {
    bytemuck::cast_slice(values)
}

/// Zeroes the first `zeros` of a stable sort by score.
fn by_stable_sort(values: &mut [f32], norms: &[f32], zeros: usize) {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| (values[a].abs() * norms[a]).total_cmp(&(values[b].abs() * norms[b])));
    order[..zeros].iter().for_each(|&i| values[i] = 0.0);
}

#[test]
fn hand_computed_wanda_row() {
    // Scores: 1·4, 2·1, 3·1, 1·2 = 4, 2, 3, 2. Two lowest: both 2s.
    let norms = [4.0, 1.0, 1.0, 2.0];
    assert_eq!(
        pruned(
            &[1.0, -2.0, 3.0, -1.0],
            4,
            Some(&norms),
            Sparsity::Ratio(0.5)
        ),
        [1.0, 0.0, 3.0, 0.0]
    );
    // One lowest: of the equal 2s the lower index.
    assert_eq!(
        pruned(
            &[1.0, -2.0, 3.0, -1.0],
            4,
            Some(&norms),
            Sparsity::Ratio(0.25)
        ),
        [1.0, 0.0, 3.0, -1.0]
    );
}

#[test]
fn hand_computed_magnitude_looks_at_the_whole_linear() {
    let values = [1.0, 2.0, 3.0, 4.0, 0.1, 0.2, 0.3, 0.4];
    assert_eq!(
        pruned(&values, 4, None, Sparsity::Ratio(0.5)),
        [1.0, 2.0, 3.0, 4.0, 0.0, 0.0, 0.0, 0.0]
    );
}

#[test]
fn hand_computed_groups_keep_n_of_m() {
    let values = [4.0, 3.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0];
    let two_of_four = Sparsity::KeptOfGroup { kept: 2, group: 4 };
    // Equal scores in the second group: the lower indices go.
    assert_eq!(
        pruned(&values, 8, None, two_of_four),
        [4.0, 3.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0]
    );
    let one_of_three = Sparsity::KeptOfGroup { kept: 1, group: 3 };
    let norms = [1.0, 1.0, 10.0, 1.0, 1.0, 1.0];
    assert_eq!(
        pruned(
            &[4.0, 3.0, 2.0, 1.0, 2.0, 1.5],
            6,
            Some(&norms),
            one_of_three
        ),
        [0.0, 0.0, 2.0, 0.0, 2.0, 0.0]
    );
}

#[test]
fn the_number_of_zeros_is_rounded_down_in_double_precision() {
    assert_eq!(zeros_of(100, 0.29), 28);
    assert_eq!(zeros_of(576, 0.5), 288);
    assert_eq!(zeros_of(7, 0.0), 0);
}

#[test]
fn scores_that_are_not_finite_are_an_error() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let norms = [1.0; 4];
        for (norms, sparsity) in [
            (Some(&norms[..]), Sparsity::Ratio(0.5)),
            (None, Sparsity::Ratio(0.5)),
            (
                Some(&norms[..]),
                Sparsity::KeptOfGroup { kept: 2, group: 4 },
            ),
        ] {
            let mut weights = Weights::F32(vec![1.0, bad, 2.0, 3.0]);
            assert_eq!(
                prune_weights(&mut weights, 4, norms, sparsity),
                Err(NonFinite)
            );
        }
        let mut weights = Weights::F32(vec![1.0; 4]);
        assert_eq!(
            prune_weights(
                &mut weights,
                4,
                Some(&[1.0, bad, 1.0, 1.0]),
                Sparsity::Ratio(0.5)
            ),
            Err(NonFinite)
        );
    }
}

#[test]
fn half_precision_keeps_bits_and_agrees_with_f32() {
    let wide: Vec<f32> = (0..4096_u16)
        .map(|i| f32::from(i % 101 * 37 % 101) * 0.25 - 12.0)
        .collect();
    let norms: Vec<f32> = (0..2048_u16).map(|i| 0.5 + f32::from(i % 13)).collect();
    for sparsity in [
        Sparsity::Ratio(0.6),
        Sparsity::KeptOfGroup { kept: 2, group: 4 },
    ] {
        let expected = pruned(&wide, 2048, Some(&norms), sparsity);
        let mut narrow = Weights::Bf16(wide.iter().map(|&v| bf16::from_f32(v)).collect());
        prune_weights(&mut narrow, 2048, Some(&norms), sparsity).unwrap();
        assert_eq!(narrow.into_f32(), expected);
        let mut narrow = Weights::F16(wide.iter().map(|&v| f16::from_f32(v)).collect());
        prune_weights(&mut narrow, 2048, Some(&norms), sparsity).unwrap();
        assert_eq!(narrow.into_f32(), expected);
    }
}

/// Few distinct values, so that ties abound.
fn matrix() -> impl Strategy<Value = (Vec<f32>, Vec<f32>, usize)> {
    (1usize..5, 1usize..300).prop_flat_map(|(d_out, quarter)| {
        let d_in = quarter * 8;
        let value = (-20i8..20).prop_map(|v| f32::from(v) * 0.125);
        let norm = (0u8..5).prop_map(|v| f32::from(v) * 0.5);
        (
            proptest::collection::vec(value, d_out * d_in),
            proptest::collection::vec(norm, d_in),
            Just(d_in),
        )
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_path_gives_the_bits_of_a_stable_sort((values, norms, d_in) in matrix(), ratio in 0.0f64..1.0) {
        let mut expected = values.clone();
        expected.chunks_exact_mut(d_in).for_each(|row| by_stable_sort(row, &norms, zeros_of(d_in, ratio)));
        let mut whole = values.clone();
        let (ones, zeros) = (vec![1.0; values.len()], zeros_of(values.len(), ratio));
        by_stable_sort(&mut whole, &ones, zeros);
        for isa in [Isa::Native, Isa::Portable] {
            let mut weights = Weights::F32(values.clone());
            prune_weights_on(isa, &mut weights, d_in, Some(&norms), Sparsity::Ratio(ratio)).unwrap();
            prop_assert_eq!(weights.as_bytes(), bytes_of(&expected));
            let mut weights = Weights::F32(values.clone());
            prune_weights_on(isa, &mut weights, d_in, None, Sparsity::Ratio(ratio)).unwrap();
            prop_assert_eq!(weights.as_bytes(), bytes_of(&whole));
        }
    }

    #[test]
    fn every_group_gives_the_bits_of_a_stable_sort((values, norms, d_in) in matrix(), kept in 1usize..7, wide: bool) {
        let group = if wide { 8 } else { 4 };
        let kept = kept.min(group - 1);
        let mut expected = values.clone();
        for row in expected.chunks_exact_mut(d_in) {
            for (values, norms) in row.chunks_exact_mut(group).zip(norms.chunks_exact(group)) {
                by_stable_sort(values, norms, group - kept);
            }
        }
        for isa in [Isa::Native, Isa::Portable] {
            let mut weights = Weights::F32(values.clone());
            prune_weights_on(isa, &mut weights, d_in, Some(&norms), Sparsity::KeptOfGroup { kept, group }).unwrap();
            prop_assert_eq!(weights.as_bytes(), bytes_of(&expected));
        }
    }

    #[test]
    fn a_sparsity_of_zero_changes_nothing((values, norms, d_in) in matrix()) {
        prop_assert_eq!(pruned(&values, d_in, Some(&norms), Sparsity::Ratio(0.0)), values);
    }

    #[test]
    fn a_common_factor_of_the_norms_changes_nothing((values, norms, d_in) in matrix(), exponent in -8i32..8) {
        let scaled: Vec<f32> = norms.iter().map(|norm| norm * 2f32.powi(exponent)).collect();
        let ratio = Sparsity::Ratio(0.5);
        prop_assert_eq!(pruned(&values, d_in, Some(&norms), ratio), pruned(&values, d_in, Some(&scaled), ratio));
    }
}
