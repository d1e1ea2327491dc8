//! Where the documents of a task lie.

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

/// Files of a data set repository at a pinned commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HubSplit {
    /// `organisation/name`.
    pub repo: &'static str,
    /// The commit, 40 hexadecimal digits.
    pub revision: &'static str,
    /// Paths within the repository, `.parquet`, `.jsonl`, `.json.gz` or `.jsonl.gz`, in the order of their rows.
    pub files: &'static [&'static str],
}
