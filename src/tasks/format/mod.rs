//! Texts of tasks that need more than one line of the registry to read.

pub(super) mod gsm8k;
pub(super) mod hellaswag;
pub(super) mod wikitext;
