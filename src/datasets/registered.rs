//! The data sets that have a name: their files below a data directory, and the same on the hub.

use super::Use;
use crate::bundled;
use crate::domain::spec::DatasetRef;
use crate::tasks::HubSplit;

const WIKITEXT: &str = "Salesforce/wikitext";
const WIKITEXT_COMMIT: &str = "b08601e04326c79dfdd32d625aee71d232d685c3";
const C4: &str = "allenai/c4";
const C4_COMMIT: &str = "1588ec454efa1a09f29cd18ddd04fe05fc8653a2";

/// The files that a data set may be, the preferred one first, relative to the directory that it lies below.
pub(super) fn local_files(dataset: &DatasetRef, purpose: Use) -> Vec<&str> {
    match (dataset, purpose) {
        (DatasetRef::Demo, Use::Calibration) => vec![bundled::CALIBRATION_TEXT],
        (DatasetRef::Demo, Use::Evaluation) => vec![bundled::TEST_TEXT],
        (DatasetRef::Wikitext2, Use::Calibration) => {
            vec!["wikitext2/wiki.train.raw", "wikitext2/wiki.valid.raw"]
        }
        (DatasetRef::Wikitext2, Use::Evaluation) => vec!["wikitext2/wiki.test.raw"],
        (DatasetRef::C4, Use::Calibration) => vec![
            "c4/en_train.jsonl",
            "c4/en_train.jsonl.gz",
            "c4/en_train_first1000.jsonl.gz",
        ],
        (DatasetRef::C4, Use::Evaluation) => {
            vec!["c4/en_validation.jsonl", "c4/en_validation.jsonl.gz"]
        }
        (DatasetRef::Local { path }, Use::Calibration | Use::Evaluation) => vec![path],
    }
}

/// Where the hub has a data set: the files that the Wanda paper's code takes (arXiv 2306.11695), at a pinned commit.
pub(super) fn hub_split(dataset: &DatasetRef, purpose: Use) -> Option<HubSplit> {
    let (repo, revision, files): (_, _, &'static [&'static str]) = match (dataset, purpose) {
        (DatasetRef::Wikitext2, Use::Calibration) => (
            WIKITEXT,
            WIKITEXT_COMMIT,
            &["wikitext-2-raw-v1/train-00000-of-00001.parquet"],
        ),
        (DatasetRef::Wikitext2, Use::Evaluation) => (
            WIKITEXT,
            WIKITEXT_COMMIT,
            &["wikitext-2-raw-v1/test-00000-of-00001.parquet"],
        ),
        (DatasetRef::C4, Use::Calibration) => {
            (C4, C4_COMMIT, &["en/c4-train.00000-of-01024.json.gz"])
        }
        (DatasetRef::C4, Use::Evaluation) => {
            (C4, C4_COMMIT, &["en/c4-validation.00000-of-00008.json.gz"])
        }
        (DatasetRef::Demo | DatasetRef::Local { .. }, Use::Calibration | Use::Evaluation) => {
            return None;
        }
    };
    Some(HubSplit {
        repo,
        revision,
        files,
    })
}

/// The files that a split of a task may be, the preferred one first, relative to the data directory.
pub(super) fn split_files(dataset: &str, name: &str) -> Vec<String> {
    ["jsonl", "jsonl.gz", "parquet", "raw"]
        .map(|ending| format!("{dataset}/{name}.{ending}"))
        .to_vec()
}
