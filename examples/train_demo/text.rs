//! Writes the text: pages of short paragraphs about the invented world.
//!
//! A page has a small cast of people who return in all its paragraphs. Each paragraph kind needs something else from a
//! model: facts of the world, names and things told a moment ago, sums, lists in their order, singular and plural.

use std::collections::HashSet;

use crate::paragraphs;
use crate::rng::Rng;
use crate::world::{PEOPLE, Person};

const CALIBRATION_BYTES: usize = 200_000;
const TEST_BYTES: usize = 100_000;

/// The text that training never sees. No paragraph of the test text is in the calibration text.
#[derive(Debug)]
pub(crate) struct HeldOut {
    pub(crate) calibration: Vec<String>,
    pub(crate) test: Vec<String>,
}

impl HeldOut {
    pub(crate) fn write(seed: u64) -> Self {
        let test = write_pages(&mut Rng::new(seed, 1), TEST_BYTES, &HashSet::new());
        let calibration = write_pages(
            &mut Rng::new(seed, 2),
            CALIBRATION_BYTES,
            &paragraphs_of(&test),
        );
        Self { calibration, test }
    }
}

/// The training text: pages of at least `min_bytes`, without any paragraph of the held-out text.
pub(crate) fn write_training_pages(seed: u64, min_bytes: usize, held_out: &HeldOut) -> Vec<String> {
    let mut taken = paragraphs_of(&held_out.test);
    taken.extend(paragraphs_of(&held_out.calibration));
    write_pages(&mut Rng::new(seed, 3), min_bytes, &taken)
}

fn paragraphs_of(pages: &[String]) -> HashSet<&str> {
    pages
        .iter()
        .flat_map(|page| page.trim_end().split("\n\n"))
        .collect()
}

fn write_pages(rng: &mut Rng, min_bytes: usize, taken: &HashSet<&str>) -> Vec<String> {
    let mut pages = Vec::new();
    let mut n_bytes = 0;
    while n_bytes < min_bytes {
        let page = write_page(rng, taken);
        n_bytes += page.len();
        pages.push(page);
    }
    pages
}

/// One page: paragraphs that are not `taken`, each followed by a blank line.
fn write_page(rng: &mut Rng, taken: &HashSet<&str>) -> String {
    let n_paragraphs = rng.between(5, 9);
    let cast: Vec<&Person> = rng.pick_distinct(PEOPLE, 3);
    let mut page = String::new();
    let mut written = 0;
    while written < n_paragraphs {
        let write = *rng.pick(paragraphs::KINDS);
        let mut order = cast.clone();
        rng.shuffle(&mut order);
        let paragraph = write(rng, &order).join(" ");
        if !taken.contains(paragraph.as_str()) {
            page.push_str(&paragraph);
            page.push_str("\n\n");
            written += 1;
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_writes_the_same_text() {
        assert_eq!(HeldOut::write(1).test, HeldOut::write(1).test);
        assert_ne!(HeldOut::write(1).test, HeldOut::write(2).test);
    }

    #[test]
    fn the_bundled_text_is_what_the_generator_writes() {
        let bundled = |name: &str| {
            let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("assets/demo")
                .join(name);
            std::fs::read_to_string(path).unwrap()
        };
        let held_out = HeldOut::write(crate::DEFAULT_SEED);
        assert!(
            held_out.test.concat() == bundled("test.txt"),
            "test.txt differs"
        );
        assert!(
            held_out.calibration.concat() == bundled("calibration.txt"),
            "calibration.txt differs"
        );
    }

    #[test]
    fn a_page_is_single_line_paragraphs_between_blank_lines() {
        let page = write_page(&mut Rng::new(3, 1), &HashSet::new());
        assert!(page.ends_with(".\n\n"), "page ends in {page:?}");
        for paragraph in page.trim_end().split("\n\n") {
            assert!(
                !paragraph.is_empty() && !paragraph.contains('\n'),
                "{paragraph:?}"
            );
        }
    }

    #[test]
    fn no_held_out_paragraph_is_in_the_training_text() {
        let held_out = HeldOut::write(1);
        let training = write_training_pages(1, 300_000, &held_out);
        let training = paragraphs_of(&training);
        let (calibration, test) = (
            paragraphs_of(&held_out.calibration),
            paragraphs_of(&held_out.test),
        );
        assert!(training.is_disjoint(&calibration));
        assert!(training.is_disjoint(&test));
        assert!(calibration.is_disjoint(&test));
    }
}
