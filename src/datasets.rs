//! Finds the files of data sets: below the operator's data directory, and the bundled text.

use std::path::PathBuf;

use crate::bundled;
use crate::domain::spec::{DatasetRef, Method};
use crate::domain::{ErrorCode, JobSpec, Refusal};

/// What a text is used for: registered data sets have a part for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// To calibrate on.
    Calibration,
    /// To measure on.
    Evaluation,
}

/// Where data sets lie.
#[derive(Debug, Clone)]
pub struct DataRoots {
    /// `SECATEUR_DATA_DIR`.
    pub data_dir: Option<PathBuf>,
    /// Where the bundled text was unpacked.
    pub bundled_dir: PathBuf,
}

/// No file of a data set is there. The message names files relative to the data directory only.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("data set {name:?} is not there: {}", remedy(*.has_data_dir, .files))]
pub struct DatasetNotFound {
    name: String,
    has_data_dir: bool,
    files: Vec<String>,
}

fn remedy(has_data_dir: bool, files: &[String]) -> String {
    let files = files.join(" or ");
    if has_data_dir {
        format!("the data directory (SECATEUR_DATA_DIR) has no {files}")
    } else {
        format!("set SECATEUR_DATA_DIR to a directory with {files}")
    }
}

impl DataRoots {
    /// The file of a data set. Its name has been checked; whether the file is there is checked here.
    pub fn locate(&self, dataset: &DatasetRef, purpose: Use) -> Result<PathBuf, DatasetNotFound> {
        let files = files(dataset, purpose);
        let root = match dataset {
            DatasetRef::Demo => Some(&self.bundled_dir),
            DatasetRef::Wikitext2 | DatasetRef::C4 | DatasetRef::Local { .. } => {
                self.data_dir.as_ref()
            }
        };
        let found = root.and_then(|root| {
            let mut candidates = files.iter().map(|file| root.join(file));
            candidates.find(|path| path.is_file())
        });
        found.ok_or_else(|| DatasetNotFound {
            name: dataset.name().to_owned(),
            has_data_dir: root.is_some(),
            files: files.into_iter().map(str::to_owned).collect(),
        })
    }

    /// The texts of a job that are not there. A job that observes no activations needs none to calibrate on.
    pub fn missing(&self, spec: &JobSpec) -> Vec<Refusal> {
        let calibration = match spec {
            JobSpec::Prune(spec) if spec.method == Method::Wanda => Some((
                "/calibration".to_owned(),
                &spec.calibration.dataset,
                Use::Calibration,
            )),
            JobSpec::Prune(_) | JobSpec::Evaluate(_) => None,
        };
        let evaluation = spec
            .evaluation()
            .perplexity
            .iter()
            .enumerate()
            .map(|(i, dataset)| {
                (
                    format!("/evaluation/perplexity/{i}"),
                    dataset,
                    Use::Evaluation,
                )
            });
        let texts = calibration.into_iter().chain(evaluation);
        let refusals = texts.filter_map(|(pointer, dataset, purpose)| {
            let error = self.locate(dataset, purpose).err()?;
            Some(Refusal {
                pointer,
                code: ErrorCode::DatasetNotFound,
                detail: error.to_string(),
            })
        });
        refusals.collect()
    }

    /// The registered data sets that are there for this use.
    pub fn registered(&self, purpose: Use) -> Vec<DatasetRef> {
        let all = [DatasetRef::C4, DatasetRef::Wikitext2, DatasetRef::Demo];
        all.into_iter()
            .filter(|dataset| self.locate(dataset, purpose).is_ok())
            .collect()
    }
}

/// The files that a data set may be, the preferred one first, relative to the directory that it lies below.
fn files(dataset: &DatasetRef, purpose: Use) -> Vec<&str> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_data_set_tells_what_to_do_and_no_directory() {
        let root = tempfile::tempdir().unwrap();
        let mut roots = DataRoots {
            data_dir: None,
            bundled_dir: root.path().to_path_buf(),
        };
        let tell = |roots: &DataRoots| {
            let error = roots.locate(&DatasetRef::Wikitext2, Use::Evaluation);
            error.unwrap_err().to_string()
        };
        assert_eq!(
            tell(&roots),
            "data set \"wikitext2\" is not there: set SECATEUR_DATA_DIR to a directory with wikitext2/wiki.test.raw"
        );
        roots.data_dir = Some(root.path().to_path_buf());
        assert_eq!(
            tell(&roots),
            "data set \"wikitext2\" is not there: the data directory (SECATEUR_DATA_DIR) has no wikitext2/wiki.test.raw"
        );
    }

    #[test]
    fn only_what_is_there_is_registered() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("wikitext2")).unwrap();
        std::fs::write(root.path().join("wikitext2/wiki.test.raw"), "x").unwrap();
        let roots = DataRoots {
            data_dir: Some(root.path().to_path_buf()),
            bundled_dir: root.path().join("bundled"),
        };
        assert_eq!(roots.registered(Use::Evaluation), [DatasetRef::Wikitext2]);
        assert_eq!(roots.registered(Use::Calibration), []);
    }
}
