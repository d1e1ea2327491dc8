//! Finds the data sets that have a name, and those that lie below the operator's data directory.

use std::path::PathBuf;

use super::below::{Below, look_below};
use super::place::is_available;
use super::{DatasetNotFound, Place};
use crate::corpora::{Corpus, DatasetRef, Home, HubSplit, Use};
use crate::domain::HubReach;
use crate::tasks::Split;

/// Where data sets lie.
#[derive(Debug, Clone)]
pub struct DataRoots {
    /// `SECATEUR_DATA_DIR`.
    pub data_dir: Option<PathBuf>,
    /// Where the bundled text was unpacked.
    pub bundled_dir: PathBuf,
    /// Whether the hub may be asked for what lies in neither.
    pub hub: HubReach,
}

impl DataRoots {
    /// Finds a text: a local file first, else the hub's.
    ///
    /// Checks that the file exists and lies below its directory; the name was checked before.
    pub fn locate(&self, dataset: &DatasetRef, purpose: Use) -> Result<Place, DatasetNotFound> {
        match dataset {
            DatasetRef::Corpus(corpus) => self.locate_corpus(corpus, purpose),
            DatasetRef::Local { path } => {
                self.find(path, self.data_dir.as_ref(), vec![path.clone()], None)
            }
        }
    }

    fn locate_corpus(&self, corpus: &Corpus, purpose: Use) -> Result<Place, DatasetNotFound> {
        let root = match corpus.home {
            Home::Bundled => Some(&self.bundled_dir),
            Home::DataDir => self.data_dir.as_ref(),
        };
        let part = corpus.part(purpose);
        let files = part.files.iter().copied().map(str::to_owned).collect();
        self.find(corpus.name, root, files, part.hub.as_ref())
    }

    /// Finds the documents of a task: `<data_dir>/<dataset>/<name>.jsonl`, `.jsonl.gz`, `.parquet` or `.raw`, else the
    /// hub's.
    pub fn locate_split(&self, split: &Split) -> Result<Place, DatasetNotFound> {
        let files = ["jsonl", "jsonl.gz", "parquet", "raw"]
            .map(|ending| format!("{}/{}.{ending}", split.dataset, split.name))
            .to_vec();
        self.find(
            split.dataset,
            self.data_dir.as_ref(),
            files,
            Some(&split.hub),
        )
    }

    fn find(
        &self,
        name: &str,
        root: Option<&PathBuf>,
        files: Vec<String>,
        hub: Option<&HubSplit>,
    ) -> Result<Place, DatasetNotFound> {
        let mut outside = None;
        if let Some(root) = root {
            for file in &files {
                match look_below(root, file) {
                    Below::File(path) => return Ok(Place::File(path)),
                    Below::Outside => outside = outside.or_else(|| Some(file.clone())),
                    Below::Absent => {}
                }
            }
        }
        let mut error = DatasetNotFound {
            name: name.to_owned(),
            has_data_dir: root.is_some(),
            files,
            outside,
            is_offline: false,
        };
        // A link that leads out is the operator's mistake, to be told rather than passed over.
        let Some(split) = hub.filter(|_| error.outside.is_none()) else {
            return Err(error);
        };
        if is_available(split, &self.hub) {
            Ok(Place::Hub {
                split: *split,
                otherwise: Box::new(error),
            })
        } else {
            error.is_offline = true;
            Err(error)
        }
    }

    /// The registered texts that are available for this use.
    pub fn available(&self, purpose: Use) -> Vec<&'static Corpus> {
        let corpora = Corpus::all().iter().copied();
        corpora
            .filter(|corpus| self.locate_corpus(corpus, purpose).is_ok())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpora::{C4, WIKITEXT2};

    fn offline(root: &std::path::Path) -> DataRoots {
        DataRoots {
            data_dir: None,
            bundled_dir: root.to_path_buf(),
            hub: HubReach::Offline {
                cache_dir: root.join("cache"),
            },
        }
    }

    fn write(path: PathBuf, content: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    const BOOLQ: Split = Split {
        dataset: "boolq",
        name: "validation",
        hub: HubSplit {
            repo: "org/boolq",
            revision: "0123456789abcdef0123456789abcdef01234567",
            files: &["boolq/a.parquet", "boolq/b.parquet"],
        },
    };

    #[test]
    fn a_missing_data_set_tells_what_to_do_and_no_directory() {
        let root = tempfile::tempdir().unwrap();
        let mut roots = offline(root.path());
        let tell = |roots: &DataRoots, dataset: &DatasetRef| {
            let error = roots.locate(dataset, Use::Evaluation);
            error.unwrap_err().to_string()
        };
        assert_eq!(
            tell(&roots, &DatasetRef::from(&WIKITEXT2)),
            "data set \"wikitext2\" is not there: set SECATEUR_DATA_DIR to a directory with wikitext2/wiki.test.raw; the hub has it, but HF_HUB_OFFLINE forbids asking for it and its cache does not hold it"
        );
        roots.data_dir = Some(root.path().to_path_buf());
        let own = DatasetRef::Local {
            path: "own.txt".to_owned(),
        };
        assert_eq!(
            tell(&roots, &own),
            "data set \"own.txt\" is not there: the data directory (SECATEUR_DATA_DIR) has no own.txt"
        );
    }

    #[test]
    fn offline_only_what_is_on_this_machine_is_available() {
        let root = tempfile::tempdir().unwrap();
        let mut roots = offline(&root.path().join("bundled"));
        roots.data_dir = Some(root.path().to_path_buf());
        write(root.path().join("wikitext2/wiki.test.raw"), "x");
        assert_eq!(roots.available(Use::Evaluation), [&WIKITEXT2]);
        assert_eq!(roots.available(Use::Calibration), [] as [&Corpus; 0]);
        roots.hub = HubReach::Online;
        let hub = [&C4, &WIKITEXT2];
        assert_eq!(roots.available(Use::Calibration), hub);
    }

    #[test]
    fn a_file_of_this_machine_goes_before_the_hub() {
        let root = tempfile::tempdir().unwrap();
        let mut roots = offline(root.path());
        roots.hub = HubReach::Online;
        let hub = roots.locate_split(&BOOLQ).unwrap();
        assert!(matches!(hub, Place::Hub { split, .. } if split == BOOLQ.hub));
        roots.data_dir = Some(root.path().to_path_buf());
        for ending in ["parquet", "jsonl.gz", "jsonl"] {
            let path = root.path().join(format!("boolq/validation.{ending}"));
            write(path.clone(), "x");
            assert_eq!(roots.locate_split(&BOOLQ).unwrap(), Place::File(path));
        }
    }

    #[test]
    fn offline_the_cache_must_hold_every_file() {
        let root = tempfile::tempdir().unwrap();
        let roots = offline(root.path());
        let snapshot = root.path().join("cache/datasets--org--boolq/snapshots");
        for (i, file) in BOOLQ.hub.files.iter().enumerate() {
            assert!(roots.locate_split(&BOOLQ).is_err(), "{i}");
            write(snapshot.join(BOOLQ.hub.revision).join(file), "x");
        }
        assert!(roots.locate_split(&BOOLQ).is_ok());
    }

    #[test]
    fn a_link_out_of_the_data_directory_is_refused_though_the_hub_has_the_data() {
        let root = tempfile::tempdir().unwrap();
        let data = root.path().join("data");
        std::fs::create_dir_all(data.join("boolq")).unwrap();
        write(root.path().join("secret.jsonl"), "{}");
        let link = data.join("boolq/validation.jsonl");
        std::os::unix::fs::symlink(root.path().join("secret.jsonl"), link).unwrap();
        let mut roots = offline(root.path());
        roots.data_dir = Some(data);
        roots.hub = HubReach::Online;
        let error = roots.locate_split(&BOOLQ).unwrap_err().to_string();
        let expected = "data set \"boolq\" is not there: boolq/validation.jsonl leads out of the data directory (SECATEUR_DATA_DIR)";
        assert_eq!(error, expected);
    }
}
