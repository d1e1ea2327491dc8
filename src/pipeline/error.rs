//! Why a job's work stopped, with its stable code.

use std::io;
use std::path::{Path, PathBuf};

use super::disk::DiskError;
use super::hub::HubError;
use crate::datasets::{DatasetError, DatasetNotFound};
use crate::domain::ErrorCode;
use crate::domain::attempt::Outage;
use crate::engine::EngineError;
use crate::models::ModelNotFound;

/// Why a job's work stopped.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// The engine stopped.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The hub does not give the model.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// The disk cannot take the work.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The job needs more memory than there is for it.
    #[error("the job needs about {needed_bytes} bytes of memory, {} has {has_bytes}", if *is_of_worker { "this worker" } else { "this machine" })]
    Memory {
        /// How much it is thought to need.
        needed_bytes: u64,
        /// How much there is.
        has_bytes: u64,
        /// Whether that is what the worker says of itself, by which it gets its jobs.
        is_of_worker: bool,
    },
    /// There is no such local model.
    #[error(transparent)]
    Model(#[from] ModelNotFound),
    /// A data set cannot be used.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// A data set is not on this machine, and the hub does not give it.
    #[error("{otherwise}; nor can it be fetched")]
    DatasetNotFetched {
        /// What would have made it unnecessary.
        otherwise: Box<DatasetNotFound>,
        /// Why not.
        source: HubError,
    },
    /// An input is not what the job needs.
    #[error("{message}")]
    Refused {
        /// The stable reason.
        code: ErrorCode,
        /// What is wrong, with the facts.
        message: String,
    },
    /// Reading or writing a file failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

impl From<DatasetNotFound> for PipelineError {
    fn from(error: DatasetNotFound) -> Self {
        Self::Dataset(error.into())
    }
}

impl PipelineError {
    pub(crate) fn refused(code: ErrorCode, message: impl Into<String>) -> Self {
        Self::Refused {
            code,
            message: message.into(),
        }
    }

    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io {
            action,
            path: path.to_path_buf(),
            source,
        }
    }

    /// The stable reason.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Engine(error) => ErrorCode::of_engine(error),
            Self::Hub(error) => error.code(),
            Self::Disk(error) => error.code(),
            Self::Memory { .. } => ErrorCode::InsufficientMemory,
            Self::Model(_) => ErrorCode::ModelNotFound,
            Self::Dataset(error) => error.code(),
            Self::DatasetNotFetched { source, .. } => match source {
                HubError::NotFound { .. }
                | HubError::AccessDenied { .. }
                | HubError::NotCached { .. } => ErrorCode::DatasetNotFound,
                other => other.code(),
            },
            Self::Refused { code, .. } => *code,
            Self::Io { source, .. } => ErrorCode::of_io(source),
        }
    }

    /// What is missing of what a worker has, or away, where nothing else is wrong. Workers tell the free disk of
    /// `scratch` alone.
    pub fn outage(&self, scratch: &Path) -> Option<Outage> {
        match self {
            Self::Disk(error) => error.outage(scratch),
            Self::Memory {
                needed_bytes,
                is_of_worker: true,
                ..
            } => Some(Outage::Memory(*needed_bytes)),
            Self::Hub(error) | Self::DatasetNotFetched { source: error, .. } => match error {
                HubError::Disk(error) => error.outage(scratch),
                error => error.is_outage().then_some(Outage::Hub),
            },
            _ => None,
        }
    }

    /// The whole chain in one line.
    pub fn chain(&self) -> String {
        let mut line = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(error) = source {
            line.push_str(": ");
            line.push_str(&error.to_string());
            source = error.source();
        }
        line
    }
}
