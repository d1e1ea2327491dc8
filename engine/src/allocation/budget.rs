//! Sharing a number of zeros so that it is met to the weight.

use std::ops::RangeInclusive;

/// Halvings of an interval of shifts: it is as narrow as doubles allow before.
const HALVINGS: usize = 100;

/// Zeros of parts with so many weights, `total` in all: each part has its wanted fraction, shifted by one number for all
/// of them, within the limits. `None` where the limits leave no such shares.
pub(crate) fn share(
    wanted: &[f64],
    weights: &[u64],
    limits: &RangeInclusive<f64>,
    total: u64,
) -> Option<Vec<u64>> {
    let parts: Vec<Part> = wanted
        .iter()
        .zip(weights)
        .map(|(&wanted, &weights)| Part::new(wanted, weights, limits))
        .collect();
    let least: u64 = parts.iter().map(|part| part.least).sum();
    let most: u64 = parts.iter().map(|part| part.most).sum();
    if parts.iter().any(|part| part.least > part.most) || !(least..=most).contains(&total) {
        return None;
    }
    let shift = shift(&parts, total);
    let mut zeros: Vec<u64> = parts.iter().map(|part| part.whole(shift)).collect();
    // Who lost most to rounding gets the zeros that are missing first.
    let mut order: Vec<usize> = (0..parts.len()).collect();
    let lost = |&at: &usize| parts[at].zeros(shift) - zeros[at] as f64;
    order.sort_by(|a, b| lost(b).total_cmp(&lost(a)).then(a.cmp(b)));
    let mut sum: u64 = zeros.iter().sum();
    while sum != total {
        for &at in &order {
            if sum < total && zeros[at] < parts[at].most {
                zeros[at] += 1;
                sum += 1;
            }
        }
        for &at in order.iter().rev() {
            if sum > total && zeros[at] > parts[at].least {
                zeros[at] -= 1;
                sum -= 1;
            }
        }
    }
    Some(zeros)
}

/// The shift with which the fractions make `total` zeros.
fn shift(parts: &[Part], total: u64) -> f64 {
    let wanted = parts.iter().map(|part| part.wanted.abs());
    let mut high = 1.0 + wanted.fold(0.0, f64::max);
    let mut low = -high;
    let sum = |shift| parts.iter().map(|part| part.zeros(shift)).sum::<f64>();
    // Where the fractions are right already they stay as they are.
    if (sum(0.0) - total as f64).abs() < 0.5 {
        return 0.0;
    }
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(low, high);
        if sum(middle) < total as f64 {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

struct Part {
    wanted: f64,
    weights: f64,
    least: u64,
    most: u64,
}

impl Part {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "fractions of a number of weights"
    )]
    fn new(wanted: f64, weights: u64, limits: &RangeInclusive<f64>) -> Self {
        let of_all = weights as f64;
        Self {
            wanted,
            weights: of_all,
            least: ((of_all * limits.start()).ceil() as u64).min(weights),
            most: ((of_all * limits.end()).floor() as u64).min(weights),
        }
    }

    /// Zeros, before they are rounded.
    fn zeros(&self, shift: f64) -> f64 {
        let zeros = (self.wanted + shift) * self.weights;
        zeros.clamp(self.least as f64, self.most as f64)
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between two numbers of weights"
    )]
    fn whole(&self, shift: f64) -> u64 {
        self.zeros(shift).floor() as u64
    }
}
