//! Zero-shot and few-shot tasks: what a document of a public data set becomes before a model sees it, and how a model's
//! answers are scored.
//!
//! Pure text and numbers: no files, no tokenizer, no model. Each task is one declaration in `registry.rs`.

mod error;
mod examples;
mod format;
mod item;
mod metric;
mod python;
mod registry;
mod row;
mod scale;
mod score;
mod split;
mod task;
#[cfg(test)]
mod tests;

pub use error::FormatError;
pub use examples::Shots;
pub use item::{Documents, Item, Page, Prompt, Request};
pub use metric::{ACC, Choice, Metric, MetricKind, Unit};
pub(crate) use python::PythonRandom;
pub use python::move_trailing_space;
pub use scale::Scale;
pub use score::{acc, acc_norm};
pub use split::Split;
pub use task::{Draw, Examples, Task};
