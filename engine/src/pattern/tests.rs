//! The ladder: by hand, against a stable sort, and properties.

use half::{bf16, f16};
use proptest::prelude::*;

use super::choose::{NonFiniteScore, choose_on, zeros_of};
use super::*;
use crate::checkpoint::Weights;
use crate::mask::Mask;
use crate::simd::Isa;

const ISAS: [Isa; 2] = [Isa::Native, Isa::Portable];

/// `|w|` times a factor of the column.
struct Times<'a>(&'a [f32]);

impl Score for Times<'_> {
    fn fill(&self, _row: usize, column: usize, weights: &[f32], scores: &mut [f32]) {
        let factors = &self.0[column..];
        for ((score, weight), factor) in scores.iter_mut().zip(weights).zip(factors) {
            *score = weight.abs() * factor;
        }
    }
}

fn ratio(sparsity: f64) -> Goal {
    Goal::new(Pattern::Unstructured, sparsity)
}

fn kept_of_group(kept: usize, group: usize) -> Goal {
    let pattern = Pattern::KeptOfGroup { kept, group };
    let sparsity = pattern.implied_sparsity().unwrap();
    Goal::new(pattern, sparsity)
}

/// By rows with factors, over the whole linear without.
fn try_mask(
    isa: Isa,
    weights: &Weights,
    d_in: usize,
    factors: Option<&[f32]>,
    goal: Goal,
) -> Result<Mask, NonFiniteScore> {
    let ones = vec![1.0; d_in];
    let (among, factors) = match factors {
        Some(factors) => (ComparisonGroup::Row, factors),
        None => (ComparisonGroup::Linear, &ones[..]),
    };
    choose_on(isa, weights, d_in, goal, among, &Times(factors))
}

fn pruned_weights(
    isa: Isa,
    mut weights: Weights,
    d_in: usize,
    factors: Option<&[f32]>,
    goal: Goal,
) -> Weights {
    let mask = try_mask(isa, &weights, d_in, factors, goal).unwrap();
    mask.apply(&mut weights);
    weights
}

fn pruned(values: &[f32], d_in: usize, factors: Option<&[f32]>, goal: Goal) -> Vec<f32> {
    let weights = Weights::F32(values.to_vec());
    pruned_weights(Isa::Native, weights, d_in, factors, goal).into_f32()
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
        pruned(&[1.0, -2.0, 3.0, -1.0], 4, Some(&norms), ratio(0.5)),
        [1.0, 0.0, 3.0, 0.0]
    );
    // One lowest: of the equal 2s the lower index.
    assert_eq!(
        pruned(&[1.0, -2.0, 3.0, -1.0], 4, Some(&norms), ratio(0.25)),
        [1.0, 0.0, 3.0, -1.0]
    );
}

#[test]
fn hand_computed_magnitude_looks_at_the_whole_linear() {
    let values = [1.0, 2.0, 3.0, 4.0, 0.1, 0.2, 0.3, 0.4];
    assert_eq!(
        pruned(&values, 4, None, ratio(0.5)),
        [1.0, 2.0, 3.0, 4.0, 0.0, 0.0, 0.0, 0.0]
    );
}

#[test]
fn hand_computed_groups_keep_n_of_m() {
    let values = [4.0, 3.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0];
    let two_of_four = kept_of_group(2, 4);
    // Equal scores in the second group: the lower indices go.
    assert_eq!(
        pruned(&values, 8, None, two_of_four),
        [4.0, 3.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0]
    );
    let one_of_three = kept_of_group(1, 3);
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
        let factors = [1.0; 4];
        for (factors, goal) in [
            (Some(&factors[..]), ratio(0.5)),
            (None, ratio(0.5)),
            (Some(&factors[..]), kept_of_group(2, 4)),
        ] {
            let weights = Weights::F32(vec![1.0, bad, 2.0, 3.0]);
            let mask = try_mask(Isa::Native, &weights, 4, factors, goal);
            assert_eq!(mask, Err(NonFiniteScore));
        }
        let weights = Weights::F32(vec![1.0; 4]);
        let factors = [1.0, bad, 1.0, 1.0];
        let mask = try_mask(Isa::Native, &weights, 4, Some(&factors), ratio(0.5));
        assert_eq!(mask, Err(NonFiniteScore));
    }
}

#[test]
fn half_precision_keeps_bits_and_agrees_with_f32() {
    let wide: Vec<f32> = (0..4096_u16)
        .map(|i| f32::from(i % 101 * 37 % 101) * 0.25 - 12.0)
        .collect();
    let factors: Vec<f32> = (0..2048_u16).map(|i| 0.5 + f32::from(i % 13)).collect();
    for goal in [ratio(0.6), kept_of_group(2, 4)] {
        let expected = pruned(&wide, 2048, Some(&factors), goal);
        for narrow in [
            Weights::Bf16(wide.iter().map(|&v| bf16::from_f32(v)).collect()),
            Weights::F16(wide.iter().map(|&v| f16::from_f32(v)).collect()),
        ] {
            let narrow = pruned_weights(Isa::Native, narrow, 2048, Some(&factors), goal);
            assert_eq!(narrow.into_f32(), expected);
        }
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
    fn every_path_gives_the_bits_of_a_stable_sort((values, factors, d_in) in matrix(), sparsity in 0.0f64..1.0) {
        let mut by_row = values.clone();
        by_row.chunks_exact_mut(d_in).for_each(|row| by_stable_sort(row, &factors, zeros_of(d_in, sparsity)));
        let mut whole = values.clone();
        let (ones, zeros) = (vec![1.0; values.len()], zeros_of(values.len(), sparsity));
        by_stable_sort(&mut whole, &ones, zeros);
        for isa in ISAS {
            for (factors, expected) in [(Some(&factors[..]), &by_row), (None, &whole)] {
                let weights = pruned_weights(isa, Weights::F32(values.clone()), d_in, factors, ratio(sparsity));
                prop_assert_eq!(weights.as_bytes(), bytes_of(expected));
            }
        }
    }

    #[test]
    fn every_group_gives_the_bits_of_a_stable_sort((values, factors, d_in) in matrix(), kept in 1usize..7, wide: bool) {
        let group = if wide { 8 } else { 4 };
        let kept = kept.min(group - 1);
        let mut expected = values.clone();
        for row in expected.chunks_exact_mut(d_in) {
            for (values, factors) in row.chunks_exact_mut(group).zip(factors.chunks_exact(group)) {
                by_stable_sort(values, factors, group - kept);
            }
        }
        for isa in ISAS {
            let weights = Weights::F32(values.clone());
            let weights = pruned_weights(isa, weights, d_in, Some(&factors), kept_of_group(kept, group));
            prop_assert_eq!(weights.as_bytes(), bytes_of(&expected));
        }
    }

    #[test]
    fn the_budget_is_met_exactly((values, factors, d_in) in matrix(), sparsity in 0.0f64..1.0) {
        let weights = Weights::F32(values.clone());
        let by_row = try_mask(Isa::Native, &weights, d_in, Some(&factors), ratio(sparsity)).unwrap();
        for row in 0..values.len() / d_in {
            let chosen = (0..d_in).filter(|&column| by_row.contains(row, column)).count();
            prop_assert_eq!(chosen, zeros_of(d_in, sparsity));
        }
        let whole = try_mask(Isa::Native, &weights, d_in, None, ratio(sparsity)).unwrap();
        prop_assert_eq!(whole.count(), zeros_of(values.len(), sparsity) as u64);
        let groups = try_mask(Isa::Native, &weights, d_in, Some(&factors), kept_of_group(3, 8)).unwrap();
        for (row, group) in (0..values.len() / d_in).flat_map(|row| (0..d_in / 8).map(move |group| (row, group))) {
            let chosen = (0..8).filter(|i| groups.contains(row, group * 8 + i)).count();
            prop_assert_eq!(chosen, 5);
        }
    }

    #[test]
    fn kept_weights_are_bit_identical((values, factors, d_in) in matrix(), sparsity in 0.0f64..1.0) {
        let weights = Weights::F32(values.clone());
        let mask = try_mask(Isa::Native, &weights, d_in, Some(&factors), ratio(sparsity)).unwrap();
        let mut pruned = weights;
        mask.apply(&mut pruned);
        for (at, (after, before)) in pruned.into_f32().iter().zip(&values).enumerate() {
            let expected = if mask.contains(at / d_in, at % d_in) { 0.0 } else { *before };
            prop_assert_eq!(after.to_bits(), expected.to_bits());
        }
    }

    #[test]
    fn the_order_of_rows_changes_nothing((values, factors, d_in) in matrix(), sparsity in 0.0f64..1.0) {
        let reversed: Vec<f32> = values.chunks_exact(d_in).rev().flatten().copied().collect();
        let there = pruned(&values, d_in, Some(&factors), ratio(sparsity));
        let back = pruned(&reversed, d_in, Some(&factors), ratio(sparsity));
        let back: Vec<f32> = back.chunks_exact(d_in).rev().flatten().copied().collect();
        prop_assert_eq!(there, back);
    }

    #[test]
    fn a_sparsity_of_zero_changes_nothing((values, factors, d_in) in matrix()) {
        prop_assert_eq!(pruned(&values, d_in, Some(&factors), ratio(0.0)), values);
    }

    #[test]
    fn a_common_factor_changes_nothing((values, factors, d_in) in matrix(), exponent in -8i32..8) {
        let scaled: Vec<f32> = factors.iter().map(|factor| factor * 2f32.powi(exponent)).collect();
        prop_assert_eq!(pruned(&values, d_in, Some(&factors), ratio(0.5)), pruned(&values, d_in, Some(&scaled), ratio(0.5)));
    }

    #[test]
    fn a_pattern_is_read_as_it_is_written(kept in 1usize..64, more in 1usize..64) {
        let group = kept + more;
        let pattern = Pattern::KeptOfGroup { kept, group };
        let read = pattern.to_string().parse::<Pattern>();
        prop_assert_eq!(read.ok(), (group <= Pattern::MAX_GROUP).then_some(pattern));
    }
}

#[test]
fn what_is_no_pattern_is_refused() {
    assert_eq!("unstructured".parse(), Ok(Pattern::Unstructured));
    for text in [
        "",
        "2:",
        ":4",
        "2:4:8",
        "4:4",
        "0:4",
        "+2:4",
        "2:65",
        "Unstructured",
    ] {
        assert!(text.parse::<Pattern>().is_err(), "{text}");
    }
}
