use candle_core::{Device, Tensor};

use super::*;
use crate::model::InputId;
use crate::pattern::Pattern;

/// Statistics of one window with one token per feature, so that √‖x‖ is as given.
fn seen(roots: &[f32]) -> InputStatistics {
    let d_in = roots.len();
    let x: Vec<f32> = roots.iter().map(|root| root * root).collect();
    let x = Tensor::from_vec(x, (1, d_in), &Device::Cpu).unwrap();
    let mut seen = InputStatistics::collecting(Ria.needs(), d_in, 1);
    seen.add(&x).unwrap();
    seen
}

fn linear(d_out: usize, d_in: usize) -> LinearSpec {
    LinearSpec {
        name: "linear".to_owned(),
        d_out,
        d_in,
        has_bias: false,
        input: InputId(0),
    }
}

fn mask(
    group: Option<ComparisonGroup>,
    values: &[f32],
    roots: &[f32],
    pattern: Pattern,
    sparsity: f64,
) -> Vec<usize> {
    let d_in = roots.len();
    let linear = linear(values.len() / d_in, d_in);
    let goal = Goal {
        group,
        ..Goal::new(pattern, sparsity)
    };
    let mut weights = Weights::F32(values.to_vec());
    let chosen = Ria.prune(&mut weights, &linear, &seen(roots), goal);
    let mask = chosen.unwrap().mask;
    let chosen = (0..values.len()).filter(|at| mask.contains(at / d_in, at % d_in));
    chosen.collect()
}

const ROWS: Option<ComparisonGroup> = Some(ComparisonGroup::Row);

#[test]
fn hand_computed_scores() {
    // Sums of rows: 4, 8; of columns: 2, 4, 6.
    // Scores: 1/2 + 1/4, 1/4 + 1/4, 2/6 + 2/4 = 0.75, 0.5, 0.83
    //         1/2 + 1/8, 3/4 + 3/8, 4/6 + 4/8 = 0.625, 1.125, 1.17
    let values = [1.0, -1.0, 2.0, -1.0, 3.0, 4.0];
    let ones = [1.0; 3];
    let free = Pattern::Unstructured;
    assert_eq!(mask(None, &values, &ones, free, 0.5), [0, 1, 3]);
    assert_eq!(mask(ROWS, &values, &ones, free, 0.34), [1, 3]);
    // Times √‖x‖ of 4, 1, 1: 3, 0.5, 0.83; 2.5, 1.125, 1.17.
    let roots = [4.0, 1.0, 1.0];
    assert_eq!(mask(None, &values, &roots, free, 0.5), [1, 2, 4]);
    assert_eq!(mask(ROWS, &values, &roots, free, 0.34), [1, 4]);
    let one_of_three = Pattern::KeptOfGroup { kept: 1, group: 3 };
    assert_eq!(
        mask(None, &values, &roots, one_of_three, 2.0 / 3.0),
        [1, 2, 4, 5]
    );
}

#[test]
fn rows_and_columns_of_zeros_are_chosen_first() {
    let values = [0.0, 1.0, 2.0, 0.0, 0.0, 0.0, 0.0, 3.0, 4.0];
    let ones = [1.0; 3];
    assert_eq!(
        mask(None, &values, &ones, Pattern::Unstructured, 0.56),
        [0, 3, 4, 5, 6]
    );
    assert_eq!(
        mask(ROWS, &[0.0; 6], &ones, Pattern::Unstructured, 0.34),
        [0, 3]
    );
}

#[test]
fn weights_that_are_not_finite_are_an_error() {
    let linear = linear(2, 2);
    let goal = Goal::new(Pattern::Unstructured, 0.5);
    for bad in [f32::NAN, f32::INFINITY] {
        let mut weights = Weights::F32(vec![1.0, bad, 2.0, 3.0]);
        let error = Ria.prune(&mut weights, &linear, &seen(&[1.0, 1.0]), goal);
        let error = error.unwrap_err().to_string();
        assert_eq!(error, "non-finite values in scores of linear");
    }
}
