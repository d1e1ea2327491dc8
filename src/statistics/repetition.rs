//! How much a text repeats itself.

use std::collections::HashSet;

/// Tokens per gram.
const GRAM: usize = 4;

/// Fraction of the 4-grams of `tokens`, overlapping ones included, that stood in them before; 0 for fewer than 4 tokens.
///
/// A text that never says four tokens in a row again has 0; one that loops comes close to 1: with a period of p, the
/// first p of n − 3 grams are new. As it counts tokens, it needs no words and sees loops of any language.
pub fn repetition(tokens: &[u32]) -> f64 {
    let grams = tokens.len().saturating_sub(GRAM - 1);
    if grams == 0 {
        return 0.0;
    }
    let distinct: HashSet<&[u32]> = tokens.windows(GRAM).collect();
    (grams - distinct.len()) as f64 / grams as f64
}

#[cfg(test)]
#[expect(
    clippy::float_cmp,
    reason = "fractions of small numbers are the same every time"
)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_says_nothing_twice_has_none() {
        assert_eq!(repetition(&[1, 2, 3, 4, 5, 6, 7, 8]), 0.0);
        // Single tokens and pairs may come again.
        assert_eq!(repetition(&[1, 2, 9, 1, 2, 8, 1, 2]), 0.0);
    }

    #[test]
    fn a_loop_has_all_but_its_first_turn() {
        // 10 tokens of period 2: 7 grams, of which 2 are new.
        assert_eq!(repetition(&[1, 2, 1, 2, 1, 2, 1, 2, 1, 2]), 5.0 / 7.0);
        // 67 times the same token: 64 grams, of which 1 is new.
        assert_eq!(repetition(&[5; 67]), 63.0 / 64.0);
    }

    #[test]
    fn fewer_than_four_tokens_cannot_repeat() {
        assert_eq!(repetition(&[]), 0.0);
        assert_eq!(repetition(&[7, 7, 7]), 0.0);
        assert_eq!(repetition(&[7, 7, 7, 7]), 0.0);
        assert_eq!(repetition(&[7, 7, 7, 7, 7]), 0.5);
    }
}
