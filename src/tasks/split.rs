//! Where the documents of a task lie.

use crate::corpora::HubSplit;

/// One split of a public data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Split {
    /// Its directory below a data directory, such as `boolq`.
    pub dataset: &'static str,
    /// Its file there without the extension, such as `validation`.
    pub name: &'static str,
    /// Where the hub has it.
    pub hub: HubSplit,
}
