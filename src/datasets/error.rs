//! Why a data set cannot be used.

use std::io;
use std::path::{Path, PathBuf};

use crate::domain::ErrorCode;

/// No file of a data set is there. The message names files relative to the data directory only.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("data set {name:?} is not there: {}{}", self.remedy(), self.hub_note())]
pub struct DatasetNotFound {
    pub(super) name: String,
    pub(super) has_data_dir: bool,
    /// The files that it may be.
    pub(super) files: Vec<String>,
    /// A file that is there and leads elsewhere.
    pub(super) outside: Option<String>,
    /// The hub has it, and must not be asked.
    pub(super) is_offline: bool,
}

impl DatasetNotFound {
    fn remedy(&self) -> String {
        let files = self.files.join(" or ");
        match &self.outside {
            Some(file) => {
                format!("{file} leads out of the data directory (SECATEUR_DATA_DIR)")
            }
            None if self.has_data_dir => {
                format!("the data directory (SECATEUR_DATA_DIR) has no {files}")
            }
            None => format!("set SECATEUR_DATA_DIR to a directory with {files}"),
        }
    }

    fn hub_note(&self) -> &'static str {
        if self.is_offline {
            "; the hub has it, but HF_HUB_OFFLINE forbids asking for it and its cache does not hold it"
        } else {
            ""
        }
    }
}

/// Why a data set cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// It is not there.
    #[error(transparent)]
    NotFound(#[from] DatasetNotFound),
    /// It is not what its name says.
    #[error("{path} cannot be read: {reason}", path = path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the line or row.
        reason: String,
    },
    /// The disk failed.
    #[error("cannot read {path}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl DatasetError {
    pub(super) fn invalid(path: &Path, reason: impl Into<String>) -> Self {
        Self::Invalid {
            path: path.to_path_buf(),
            reason: reason.into(),
        }
    }

    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io {
            path: path.to_path_buf(),
            source,
        }
    }

    /// The stable reason.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::NotFound(_) => ErrorCode::DatasetNotFound,
            Self::Invalid { .. } => ErrorCode::DatasetInvalid,
            Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                ErrorCode::DatasetNotFound
            }
            Self::Io { source, .. } => ErrorCode::of_io(source),
        }
    }
}
