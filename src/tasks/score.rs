//! The score of documents from their log-likelihoods (natural logarithm).

/// Whether the most probable choice is the right one: `argmax_i lls[i] == gold`.
///
/// Of equal choices the first counts as chosen.
pub fn acc(lls: &[f64], gold: usize) -> bool {
    argmax(lls.iter().copied()) == Some(gold)
}

/// Whether the choice that is most probable by character is the right one: `argmax_i lls[i] / chars[i] == gold`.
///
/// - `chars`: code points of each choice, see [`Item::choice_chars`](super::Item::choice_chars)
///
/// Of equal choices the first counts as chosen.
pub fn acc_norm(lls: &[f64], chars: &[usize], gold: usize) -> bool {
    let by_char = lls.iter().zip(chars).map(|(ll, &chars)| ll / chars as f64);
    argmax(by_char) == Some(gold)
}

/// The place of the largest number, the first of equal ones.
fn argmax(values: impl Iterator<Item = f64>) -> Option<usize> {
    let mut best: Option<(usize, f64)> = None;
    for (i, value) in values.enumerate() {
        if best.is_none_or(|(_, largest)| value > largest) {
            best = Some((i, value));
        }
    }
    best.map(|(i, _)| i)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_equal_choices_counts_as_chosen() {
        assert!(acc(&[-2.0, -1.0, -1.0], 1));
        assert!(!acc(&[-2.0, -1.0, -1.0], 2));
        assert!(acc_norm(&[-2.0, -4.0], &[1, 2], 0));
    }

    #[test]
    fn a_long_choice_can_win_by_character() {
        let lls = [-3.0, -8.0];
        assert!(acc(&lls, 0));
        // -3 / 2 < -8 / 8
        assert!(acc_norm(&lls, &[2, 8], 1));
    }
}
