//! The parts of Python's standard library that numbers depend on.

mod random;
mod text;

pub(crate) use random::PythonRandom;
pub use text::move_trailing_space;
pub(super) use text::{capitalize, count_words, is_space, strip};
