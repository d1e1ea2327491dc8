//! What a registered text is.

use super::table::CORPORA;

/// A registered text, with a part for each use.
#[derive(Debug, PartialEq, Eq)]
pub struct Corpus {
    /// Its name in requests, results and capabilities.
    pub name: &'static str,
    /// Its description in the API's documentation.
    pub doc: &'static str,
    /// The directory that its local files lie below.
    pub home: Home,
    /// The part to calibrate on.
    pub calibration: Part,
    /// The part to measure on.
    pub evaluation: Part,
    /// What is measured of the evaluation part.
    pub excerpt: Excerpt,
    /// Upper bound of the evaluation part's tokens, where one is known.
    pub max_tokens: Option<u64>,
}

/// What a text is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// To calibrate on.
    Calibration,
    /// To measure on.
    Evaluation,
}

/// The directory that local files lie below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Home {
    /// The directory with the files that the program carries.
    Bundled,
    /// The operator's data directory.
    DataDir,
}

/// One part of a corpus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Local files that may hold it, the preferred one first; the first that exists is read.
    pub files: &'static [&'static str],
    /// The same part on the hub.
    pub hub: Option<HubSplit>,
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

/// What of a text is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Excerpt {
    /// The separator between rows or documents.
    pub separator: &'static str,
    /// Number of leading rows or documents; `None` = all.
    pub documents: Option<usize>,
    /// Number of leading windows, unless a job gives another number; `None` = all.
    pub windows: Option<usize>,
}

impl Excerpt {
    /// The whole text, its rows with an empty line between them, as the Wanda paper's code takes WikiText-2.
    pub const WHOLE: Self = Self {
        separator: "\n\n",
        documents: None,
        windows: None,
    };

    /// The whole text with a space between its rows or documents, as calibration windows are drawn from it.
    pub const CALIBRATION: Self = Self {
        separator: " ",
        documents: None,
        windows: None,
    };
}

impl Corpus {
    /// Every corpus.
    pub const fn all() -> &'static [&'static Self] {
        CORPORA
    }

    /// The names of all corpora.
    pub fn names() -> Vec<&'static str> {
        CORPORA.iter().map(|corpus| corpus.name).collect()
    }

    /// The corpus of this name.
    pub fn find(name: &str) -> Option<&'static Self> {
        CORPORA.iter().copied().find(|corpus| corpus.name == name)
    }

    /// The part for this use.
    pub const fn part(&self, purpose: Use) -> &Part {
        match purpose {
            Use::Calibration => &self.calibration,
            Use::Evaluation => &self.evaluation,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_corpus_has_a_name_of_its_own_and_a_pinned_commit() {
        for corpus in Corpus::all() {
            assert_eq!(Corpus::find(corpus.name), Some(*corpus));
            for part in [corpus.calibration, corpus.evaluation] {
                assert!(!part.files.is_empty(), "{}", corpus.name);
                let revision = part.hub.map_or(40, |hub| hub.revision.len());
                assert_eq!(revision, 40, "{}", corpus.name);
            }
        }
    }
}
