//! Writes the text: pages of short paragraphs about the invented world.
//!
//! A page has a small cast of people who return in all its paragraphs. Each paragraph kind needs something else from a
//! model: facts of the world, names and things told a moment ago, sums, lists in their order, singular and plural.

use crate::paragraphs;
use crate::rng::Rng;
use crate::world::{PEOPLE, Person};

/// One page: paragraphs separated by blank lines, ending in one.
pub(crate) fn write_page(rng: &mut Rng) -> String {
    let n_paragraphs = rng.between(5, 9);
    let cast: Vec<&Person> = rng.pick_distinct(PEOPLE, 3);
    let mut page = String::new();
    for _ in 0..n_paragraphs {
        let write = *rng.pick(paragraphs::KINDS);
        let mut order = cast.clone();
        rng.shuffle(&mut order);
        page.push_str(&write(rng, &order).join(" "));
        page.push_str("\n\n");
    }
    page
}

/// Pages until they hold at least `min_bytes`.
pub(crate) fn write_pages(rng: &mut Rng, min_bytes: usize) -> Vec<String> {
    let mut pages = Vec::new();
    let mut n_bytes = 0;
    while n_bytes < min_bytes {
        let page = write_page(rng);
        n_bytes += page.len();
        pages.push(page);
    }
    pages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_writes_the_same_pages() {
        let first = write_pages(&mut Rng::new(1, 1), 10_000);
        let second = write_pages(&mut Rng::new(1, 1), 10_000);
        assert_eq!(first, second);
        assert_ne!(first, write_pages(&mut Rng::new(1, 2), 10_000));
    }

    #[test]
    fn a_page_is_single_line_paragraphs_between_blank_lines() {
        let page = write_page(&mut Rng::new(3, 1));
        assert!(page.ends_with(".\n\n"), "page ends in {page:?}");
        for paragraph in page.trim_end().split("\n\n") {
            assert!(!paragraph.is_empty() && !paragraph.contains('\n'), "{paragraph:?}");
        }
    }
}
