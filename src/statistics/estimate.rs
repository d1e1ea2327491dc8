//! Means with their standard errors.

use crate::domain::report::results::Estimate;

/// `right` of `n`: p = right / n with standard error sqrt(p (1 − p) / (n − 1)), the sample standard deviation of the
/// n zeros and ones over √n, as lm-evaluation-harness prints it. One document has no standard error, none no mean.
pub fn proportion(right: usize, n: usize) -> Option<Estimate> {
    if n == 0 {
        return None;
    }
    let p = right as f64 / n as f64;
    let stderr = (n > 1).then(|| (p * (1.0 - p) / (n - 1) as f64).sqrt());
    Some(Estimate { value: p, stderr })
}

/// The mean of `values`, with standard error s / √n where s² = Σ(x − mean)² / (n − 1).
pub fn mean(values: &[f64]) -> Option<Estimate> {
    let n = values.len();
    if n == 0 {
        return None;
    }
    let value = values.iter().sum::<f64>() / n as f64;
    let squares: f64 = values.iter().map(|x| (x - value).powi(2)).sum();
    let stderr = (n > 1).then(|| (squares / (n - 1) as f64 / n as f64).sqrt());
    Some(Estimate { value, stderr })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proportion_has_the_standard_error_of_the_harness() {
        // 38 of 100: sqrt(0.38 · 0.62 / 99) = sqrt(0.00237979…) = 0.04878317…
        let estimate = proportion(38, 100).unwrap();
        assert!((estimate.value - 0.38).abs() < 1e-15);
        assert!((estimate.stderr.unwrap() - 0.048_783_173_121_456_32).abs() < 1e-15);
    }

    #[test]
    fn zeros_and_ones_give_the_same_either_way() {
        let values = [1.0, 0.0, 0.0, 1.0, 1.0];
        let (a, b) = (mean(&values).unwrap(), proportion(3, 5).unwrap());
        assert!((a.value - b.value).abs() < 1e-15);
        assert!((a.stderr.unwrap() - b.stderr.unwrap()).abs() < 1e-15);
    }

    #[test]
    fn a_mean_of_numbers_is_that_of_the_hand() {
        // mean 10/3; squares 49/9 + 1/9 + 64/9 = 114/9; s² = 57/9; s²/3 = 19/9
        let estimate = mean(&[1.0, 3.0, 6.0]).unwrap();
        assert!((estimate.value - 10.0 / 3.0).abs() < 1e-15);
        assert!((estimate.stderr.unwrap() - (19.0_f64 / 9.0).sqrt()).abs() < 1e-15);
    }

    #[test]
    fn one_document_has_no_standard_error_and_none_no_mean() {
        assert_eq!(proportion(1, 1).unwrap().stderr, None);
        assert_eq!(mean(&[2.0]).unwrap().stderr, None);
        assert_eq!((proportion(0, 0), mean(&[])), (None, None));
        assert_eq!(proportion(7, 7).unwrap().stderr, Some(0.0));
    }
}
