use candle_core::{Device, Tensor};
use half::bf16;
use proptest::prelude::*;

use super::*;
use crate::algebra::test_linear::{TestLinear, on_any_threads};
use crate::statistic::{InputStatistics, Statistic};

/// A mask of these flags, `true` where a weight becomes zero.
fn mask(zeros: &[bool], d_in: usize) -> Mask {
    let mut mask = Mask::none(zeros.len() / d_in, d_in);
    let rows: Vec<&[bool]> = zeros.chunks(d_in).collect();
    mask.par_rows_mut(1).zip(rows).for_each(|(words, zeros)| {
        for (at, _) in zeros.iter().enumerate().filter(|(_, zero)| **zero) {
            words[at / 64] |= 1 << (at % 64);
        }
    });
    mask
}

impl TestLinear {
    fn refit(&self, zeros: &[bool]) -> (Vec<f32>, Refitted) {
        let mask = mask(zeros, self.linear.d_in);
        let mut weights = Weights::F32(self.values.clone());
        mask.apply(&mut weights);
        let error = refit(
            &self.values,
            &mut weights,
            &mask,
            self.gram(),
            self.seen.pairing(),
        );
        (weights.into_f32(), error)
    }
}

#[test]
fn hand_computed() {
    // G = [[2, 1], [1, 2]], λ = 0.02, so A = [[2.02, 1], [1, 2.02]]. Of w = (1, 1) only the first weight stays:
    // b = (A₀₀ + A₀₁) / A₀₀ = 3.02 / 2.02.
    let problem = TestLinear::new(&[1.0, 1.0, 1.0, 0.0, 0.0, 1.0], &[1.0, 1.0], 2);
    let (weights, error) = problem.refit(&[false, true]);
    assert!(
        (f64::from(weights[0]) - 3.02 / 2.02).abs() < 1e-6,
        "{weights:?}"
    );
    assert_eq!(weights[1].to_bits(), 0);
    // ‖WX‖² = 6; before, (0, 1) is lost: 2; after, (b − 1, −1): 2 (b − 1)² − 2 (b − 1) + 2.
    let off = 1.0 / 2.02;
    assert!((error.before - 2.0 / 6.0).abs() < 1e-6);
    assert!((error.after - (2.0 * off * off - 2.0 * off + 2.0) / 6.0).abs() < 1e-6);
}

#[test]
fn a_paired_fit_aims_at_the_outputs_of_the_dense_model() {
    // x = (1, 2) in the pruned model, (2, 2) in the dense one, which is (1, 0) ahead: w = 1 aims at (3, 2), so that
    // b = (3 · 1 + 2 · 2 + λ w) / (5 + λ) with λ = 0.05.
    let tensor = |values: [f32; 2]| Tensor::from_slice(&values, (2, 1), &Device::Cpu).unwrap();
    let mut seen =
        InputStatistics::collecting(&[Statistic::Gram], 1, 1).paired(Pairing::new(1, Some(1)));
    let [pruned, dense, ahead] = [[1.0, 2.0], [2.0, 2.0], [1.0, 0.0]].map(tensor);
    seen.add_pair(&pruned, &dense, Some(&ahead), None).unwrap();
    seen.finish();
    let mut weights = Weights::F32(vec![1.0]);
    let gram = seen.gram().unwrap();
    refit(
        &[1.0],
        &mut weights,
        &Mask::none(1, 1),
        gram,
        seen.pairing(),
    );
    assert!((weights.into_f32()[0] - 7.05 / 5.05).abs() < 1e-6);
}

/// The minimum over the kept weights of a row, by elimination in f64.
fn exact(dense: &[f32], zeros: &[bool], gram: &Gram) -> Vec<f64> {
    let d_in = gram.d_in();
    let a = |i: usize, j: usize| {
        let damping = if i == j { gram.damping() } else { 0.0 };
        f64::from(gram.values()[i * d_in + j] + damping)
    };
    let kept: Vec<usize> = (0..d_in).filter(|&j| !zeros[j]).collect();
    let equation = |i: usize| {
        let right = (0..d_in).map(|j| a(i, j) * f64::from(dense[j])).sum();
        kept.iter().map(|&j| a(i, j)).chain([right]).collect()
    };
    let mut rows: Vec<Vec<f64>> = kept.iter().map(|&i| equation(i)).collect();
    for i in 0..kept.len() {
        let pivot = rows[i].clone();
        for (_, row) in rows.iter_mut().enumerate().filter(|(k, _)| *k != i) {
            let factor = row[i] / pivot[i];
            let pairs = row.iter_mut().zip(&pivot);
            pairs.for_each(|(x, p)| *x -= factor * p);
        }
    }
    let mut solution = vec![0.0; d_in];
    for (i, &at) in kept.iter().enumerate() {
        solution[at] = rows[i][kept.len()] / rows[i][i];
    }
    solution
}

proptest! {
    #[test]
    fn it_is_the_least_squares_solution(
        tokens in prop::collection::vec(-2f32..2.0, 40 * 12),
        dense in prop::collection::vec(-1f32..1.0, 12),
        zeros in prop::collection::vec(any::<bool>(), 12),
    ) {
        let problem = TestLinear::new(&tokens, &dense, 12);
        let (weights, error) = problem.refit(&zeros);
        for (weight, exact) in weights.iter().zip(exact(&dense, &zeros, problem.gram())) {
            prop_assert!((f64::from(*weight) - exact).abs() < 1e-3, "{weight}, {exact}");
        }
        prop_assert!(error.after <= error.before);
    }

    /// Rounding, features that are always zero, fewer tokens than features: zeros stay, and no error rises.
    #[test]
    fn no_error_rises_in_any_dtype(
        tokens in prop::collection::vec(prop_oneof![Just(0f32), -1e3f32..1e3], 5 * 70),
        dense in prop::collection::vec(-1f32..1.0, 3 * 70),
        zeros in prop::collection::vec(any::<bool>(), 3 * 70),
    ) {
        let mask = mask(&zeros, 70);
        let mut weights = Weights::Bf16(dense.iter().map(|&w| bf16::from_f32(w)).collect());
        let dense = weights.clone().into_f32();
        let problem = TestLinear::new(&tokens, &dense, 70);
        mask.apply(&mut weights);
        let error = refit(&dense, &mut weights, &mask, problem.gram(), None);
        prop_assert!(error.after.is_finite() && error.after <= error.before);
        for (weight, zero) in weights.into_f32().iter().zip(&zeros) {
            prop_assert!(weight.is_finite() && (!zero || weight.to_bits() == 0));
        }
    }
}

#[test]
fn it_is_the_same_for_any_number_of_threads() {
    let problem = TestLinear::random(200, 90, 300, 7);
    let zeros: Vec<bool> = (0..problem.values.len()).map(|i| i * 31 % 7 < 4).collect();
    on_any_threads(|| problem.refit(&zeros));
}
