//! Why a use-case of jobs fails.

use super::capacity::Full;
use crate::artifacts::ArtifactError;
use crate::domain::JobId;
use crate::domain::job::state::{Action, JobState};
use crate::domain::{ErrorCode, Refusal};
use crate::request::FieldError;
use crate::store::StoreError;

/// Why a use-case of jobs fails.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The submission has wrong fields; all of them are listed.
    #[error("the request has {} wrong {}", .0.len(), if .0.len() == 1 { "field" } else { "fields" })]
    Invalid(Vec<FieldError>),
    /// The submission is well-formed and cannot be done; never empty.
    #[error("the job cannot be accepted")]
    Refused(Vec<Refusal>),
    /// Whether the submission can be done could not be found out.
    #[error("the submission could not be checked")]
    Unchecked(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The disk or the queue is full.
    #[error(transparent)]
    Full(Full),
    /// The key was used for another submission.
    #[error("the key was sent with another body within the last 24 hours")]
    KeyReused,
    /// No such job.
    #[error("no job has the id {0}")]
    JobNotFound(JobId),
    /// No such worker.
    #[error("no worker has the id {0:?}")]
    WorkerNotFound(String),
    /// The job has not succeeded (yet).
    #[error("the job {id} is {}, results exist once it has succeeded", state.as_str())]
    ResultsNotReady {
        /// The job.
        id: JobId,
        /// Its state.
        state: JobState,
    },
    /// The job has no such file.
    #[error("the job {id} has no artifact {name:?}")]
    ArtifactNotFound {
        /// The job.
        id: JobId,
        /// The name in the request.
        name: String,
    },
    /// A file of the job is not there any more, or has another length.
    #[error("artifact {name:?} of job {id} has {stored:?} bytes, expected {expected}")]
    ArtifactDamaged {
        /// The job.
        id: JobId,
        /// The file.
        name: String,
        /// Its length; `None` when it is not there.
        stored: Option<u64>,
        /// What was published.
        expected: u64,
    },
    /// The job's state does not allow what was asked.
    #[error("{} is not possible while the job is {}", action.as_str(), state.as_str())]
    NotAllowed {
        /// What was asked.
        action: Action,
        /// Its state.
        state: JobState,
    },
    /// Another job that is not over works on what this one has brought.
    #[error("the job {id} cannot be deleted while {user} uses its artifact")]
    InUse {
        /// The job.
        id: JobId,
        /// The other one.
        user: JobId,
    },
    /// The job has changed since the client saw it.
    #[error("the job {id} is of version {version} now")]
    Stale {
        /// The job.
        id: JobId,
        /// Its version.
        version: u64,
    },
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The artifact store failed.
    #[error(transparent)]
    Artifacts(#[from] ArtifactError),
}

impl Error {
    /// The stable reason, for clients.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Invalid(_) => ErrorCode::InvalidRequest,
            Self::Refused(refusals) => refusals
                .first()
                .map_or(ErrorCode::InvalidRequest, |refusal| refusal.code),
            Self::KeyReused => ErrorCode::IdempotencyKeyReused,
            Self::JobNotFound(_) => ErrorCode::JobNotFound,
            Self::WorkerNotFound(_) => ErrorCode::WorkerNotFound,
            Self::ResultsNotReady { .. } => ErrorCode::ResultsNotReady,
            Self::ArtifactNotFound { .. } => ErrorCode::ArtifactNotFound,
            Self::NotAllowed { .. } => ErrorCode::InvalidTransition,
            Self::InUse { .. } => ErrorCode::ArtifactInUse,
            Self::Stale { .. } => ErrorCode::VersionMismatch,
            Self::Store(error) if error.is_transient() => ErrorCode::Unavailable,
            Self::Unchecked(_) | Self::Full(_) | Self::Artifacts(_) => ErrorCode::Unavailable,
            Self::Store(_) | Self::ArtifactDamaged { .. } => ErrorCode::Internal,
        }
    }

    /// Whether only the log gets the message: it is about the service, not the request.
    pub fn is_hidden(&self) -> bool {
        matches!(self.code(), ErrorCode::Unavailable | ErrorCode::Internal)
            && !matches!(self, Self::Full(_))
    }
}
