//! Zero-shot and few-shot tasks: what a document of a public data set becomes before a model sees it.
//!
//! Pure text: no files, no tokenizer, no model. A task is one declaration in [`registry`.]

mod split;

pub use split::{HubSplit, Split};
