//! Which choice a model prefers.

/// The choice of the highest log-likelihood; the first of equals. `None` without choices or if one is NaN.
pub fn likeliest(log_likelihoods: &[f64]) -> Option<usize> {
    let mut best: Option<(usize, f64)> = None;
    for (index, &value) in log_likelihoods.iter().enumerate() {
        if value.is_nan() {
            return None;
        }
        if best.is_none_or(|(_, highest)| value > highest) {
            best = Some((index, value));
        }
    }
    best.map(|(index, _)| index)
}

/// The choice of the highest log-likelihood per character, by which `acc_norm` is scored: longer choices are less likely
/// for their length alone. `chars` are the choices' Unicode code points, one number per choice.
pub fn likeliest_per_char(log_likelihoods: &[f64], chars: &[usize]) -> Option<usize> {
    let pairs = log_likelihoods.iter().zip(chars);
    let per_char: Vec<f64> = pairs.map(|(ll, &chars)| ll / chars as f64).collect();
    likeliest(&per_char)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_equal_choices_wins() {
        assert_eq!(likeliest(&[-2.0, -1.0, -1.0]), Some(1));
        assert_eq!(likeliest(&[]), None);
        assert_eq!(likeliest(&[f64::NEG_INFINITY, f64::NEG_INFINITY]), Some(0));
        assert_eq!(likeliest(&[-1.0, f64::NAN]), None);
    }

    #[test]
    fn a_long_choice_is_not_held_against_itself() {
        // −6 / 10 = −0.6 beats −4 / 5 = −0.8.
        assert_eq!(likeliest_per_char(&[-4.0, -6.0], &[5, 10]), Some(1));
        assert_eq!(likeliest(&[-4.0, -6.0]), Some(0));
    }
}
