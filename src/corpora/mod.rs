//! The registered texts: what requests may name to calibrate on and to measure perplexity on.
//!
//! Pure data: no files, no network. Each corpus is one row of `table.rs`.

mod corpus;
mod dataset_ref;
mod table;

pub use corpus::{Corpus, Excerpt, Home, HubSplit, Part, Use};
pub use dataset_ref::{DatasetRef, LOCAL};
pub use table::{C4, DEMO, WIKITEXT2, WIKITEXT2_TEST};
