//! Every way a request or a job can fail, as a stable word.
//!
//! Clients branch on these words, so a code is never renamed; `docs/API.md` lists them.

use std::io;

use serde::{Deserialize, Serialize};

use crate::engine::EngineError;

macro_rules! error_codes {
    ($($(#[$doc:meta])* $variant:ident = $word:literal, status: $status:literal, retryable: $retryable:literal;)*) => {
        /// A stable, machine-readable reason of failure.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum ErrorCode {
            $($(#[$doc])* $variant,)*
        }

        impl ErrorCode {
            /// Every code, in the order of this file.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The word on the wire.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }

            /// The HTTP status of an answer for this reason; 422 where a submission is refused for it.
            pub fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)* }
            }

            /// Whether the same work may succeed when it is tried again.
            pub fn retryable(self) -> bool {
                match self { $(Self::$variant => $retryable,)* }
            }
        }
    };
}

error_codes! {
    /// The request body, a query parameter or a header is not what the API takes; `errors` says where.
    InvalidRequest = "invalid_request", status: 400, retryable: false;
    /// The request body is larger than the limit.
    PayloadTooLarge = "payload_too_large", status: 413, retryable: false;
    /// The request body is not JSON by its `Content-Type`, or is compressed.
    UnsupportedMediaType = "unsupported_media_type", status: 415, retryable: false;
    /// No such route.
    RouteNotFound = "route_not_found", status: 404, retryable: false;
    /// The route exists, the method does not.
    MethodNotAllowed = "method_not_allowed", status: 405, retryable: false;
    /// No job has this id.
    JobNotFound = "job_not_found", status: 404, retryable: false;
    /// No worker has this id.
    WorkerNotFound = "worker_not_found", status: 404, retryable: false;
    /// The job has no artifact of this name (yet).
    ArtifactNotFound = "artifact_not_found", status: 404, retryable: false;
    /// The job has no results (yet).
    ResultsNotReady = "results_not_ready", status: 409, retryable: true;
    /// The job's state does not allow this; `allowed` lists what does.
    InvalidTransition = "invalid_transition", status: 409, retryable: false;
    /// The job cannot be deleted while another one uses its artifact.
    ArtifactInUse = "artifact_in_use", status: 409, retryable: true;
    /// The `Idempotency-Key` was sent with another body before.
    IdempotencyKeyReused = "idempotency_key_reused", status: 422, retryable: false;
    /// The job is not of the version that `If-Match` names any more.
    VersionMismatch = "version_mismatch", status: 412, retryable: false;
    /// No webhook has this id.
    WebhookNotFound = "webhook_not_found", status: 404, retryable: false;
    /// The webhook has no delivery of this id.
    DeliveryNotFound = "delivery_not_found", status: 404, retryable: false;
    /// The webhook is disabled: its receiver answered 410, or a client said so.
    WebhookDisabled = "webhook_disabled", status: 409, retryable: false;
    /// There are as many webhooks as there may be.
    TooManyWebhooks = "too_many_webhooks", status: 409, retryable: false;
    /// The range asked for lies outside the file.
    RangeNotSatisfiable = "range_not_satisfiable", status: 416, retryable: false;
    /// The request's `Host` is none of this server's names.
    MisdirectedRequest = "misdirected_request", status: 421, retryable: false;
    /// A page of another origin asked for a change.
    CrossOrigin = "cross_origin", status: 403, retryable: false;
    /// The request took longer than the server allows.
    RequestTimeout = "request_timeout", status: 408, retryable: true;
    /// The database, the artifact store or the model's files cannot be read, or there is no room for one more job.
    Unavailable = "unavailable", status: 503, retryable: true;
    /// A defect of the service; the request id leads to its log.
    Internal = "internal", status: 500, retryable: true;

    /// No model of this id, no such revision, or no job with such an artifact.
    ModelNotFound = "model_not_found", status: 422, retryable: false;
    /// The hub refuses this token (or none) for this model.
    ModelAccessDenied = "model_access_denied", status: 422, retryable: false;
    /// The hub cannot be reached or answers with an error.
    HubUnavailable = "hub_unavailable", status: 422, retryable: true;
    /// A downloaded file differs from what the hub lists, also after it was fetched again.
    DownloadCorrupt = "download_corrupt", status: 422, retryable: true;
    /// The model's architecture, or a setting of it, is not supported.
    UnsupportedArchitecture = "unsupported_architecture", status: 422, retryable: false;
    /// The weights are in a format that can run code or that is not safetensors.
    UnsafeFormat = "unsafe_format", status: 422, retryable: false;
    /// `config.json` is missing or does not say what it must.
    InvalidConfig = "invalid_config", status: 422, retryable: false;
    /// A safetensors file is truncated, or its header lies.
    MalformedCheckpoint = "malformed_checkpoint", status: 422, retryable: false;
    /// A file of the model directory is a link that leads out of it.
    LinkedFile = "linked_file", status: 422, retryable: false;
    /// There are no weights, or the index names a shard that is not there.
    MissingShard = "missing_shard", status: 422, retryable: false;
    /// A tensor that the architecture needs is not there, or has another shape or dtype.
    MissingTensor = "missing_tensor", status: 422, retryable: false;
    /// The pattern does not fit this model, such as 2:4 on a width that 4 does not divide.
    PatternMismatch = "pattern_mismatch", status: 422, retryable: false;
    /// A rule matches no linear of this model.
    RuleMismatch = "rule_mismatch", status: 422, retryable: false;
    /// Parts cannot be removed from this model as was asked.
    StructureMismatch = "structure_mismatch", status: 422, retryable: false;
    /// The zeros cannot be shared among this model's blocks as was asked.
    AllocationMismatch = "allocation_mismatch", status: 422, retryable: false;
    /// The model directory has no `tokenizer.json`, and the job needs one.
    TokenizerMissing = "tokenizer_missing", status: 422, retryable: false;
    /// `tokenizer.json` cannot be read, or gives ids that the model has no embedding for.
    TokenizerInvalid = "tokenizer_invalid", status: 422, retryable: false;
    /// No data set of this name or path.
    DatasetNotFound = "dataset_not_found", status: 422, retryable: false;
    /// A data set file is not readable as text, JSONL or token ids.
    DatasetInvalid = "dataset_invalid", status: 422, retryable: false;
    /// The text has too few tokens for the windows asked for.
    TextTooShort = "text_too_short", status: 422, retryable: false;
    /// What is to be predicted alone is longer than the model's context.
    ContextTooLong = "context_too_long", status: 422, retryable: false;
    /// The baseline does not see the text as the model does, so that their numbers cannot be compared.
    BaselineMismatch = "baseline_mismatch", status: 422, retryable: false;
    /// The windows are longer than the model's context.
    SeqLenTooLong = "seq_len_too_long", status: 422, retryable: false;
    /// A NaN or an infinity in activations, scores or losses; the block and the linear are named.
    NonFinite = "non_finite", status: 422, retryable: false;
    /// The Gram matrix of a linear's input cannot be factored, even with more damping.
    SingularHessian = "singular_hessian", status: 422, retryable: false;
    /// The output directory exists already.
    OutputExists = "output_exists", status: 422, retryable: false;
    /// The disk is full, or would be.
    InsufficientDisk = "insufficient_disk", status: 422, retryable: true;
    /// The job needs more memory than the machine that ran it has.
    InsufficientMemory = "insufficient_memory", status: 422, retryable: false;
    /// The device ran out of memory.
    OutOfMemory = "out_of_memory", status: 422, retryable: false;
    /// The device asked for is not there.
    DeviceUnavailable = "device_unavailable", status: 422, retryable: true;
    /// The service may not read or write a file or a directory.
    PermissionDenied = "permission_denied", status: 422, retryable: false;
    /// Reading or writing failed.
    Io = "io", status: 422, retryable: true;
    /// The process that ran the attempt died.
    WorkerCrashed = "worker_crashed", status: 422, retryable: true;
    /// The job was not over by its deadline.
    DeadlineExceeded = "deadline_exceeded", status: 422, retryable: false;
    /// The job was cancelled.
    Cancelled = "cancelled", status: 422, retryable: false;
}

impl ErrorCode {
    /// The stable reason of an error of the engine.
    pub fn of_engine(error: &EngineError) -> Self {
        match error {
            EngineError::Io { source, .. } => Self::of_io(source),
            EngineError::InvalidConfig(_) => Self::InvalidConfig,
            EngineError::UnsupportedArchitecture(_) | EngineError::UnreadTensor(_) => {
                Self::UnsupportedArchitecture
            }
            EngineError::UnsafeFormat(_) => Self::UnsafeFormat,
            EngineError::MalformedCheckpoint { .. } => Self::MalformedCheckpoint,
            EngineError::MissingShard { .. } | EngineError::MissingWeights { .. } => {
                Self::MissingShard
            }
            EngineError::LinkedFile { .. } => Self::LinkedFile,
            EngineError::MissingTensor(_)
            | EngineError::ShapeMismatch { .. }
            | EngineError::UnsupportedDtype { .. } => Self::MissingTensor,
            EngineError::PatternMismatch { .. } => Self::PatternMismatch,
            EngineError::RuleMismatch { .. } => Self::RuleMismatch,
            EngineError::AllocationMismatch { .. } => Self::AllocationMismatch,
            EngineError::StructureMismatch { .. } => Self::StructureMismatch,
            EngineError::InvalidWindows(_) | EngineError::InvalidSequence { .. } => {
                Self::DatasetInvalid
            }
            EngineError::TokenOutOfVocabulary { .. } | EngineError::VocabularyMismatch { .. } => {
                Self::TokenizerInvalid
            }
            EngineError::NonFinite { .. } => Self::NonFinite,
            EngineError::SingularHessian { .. } => Self::SingularHessian,
            EngineError::Stopped => Self::Cancelled,
            EngineError::Tensor(_) if error.is_out_of_memory() => Self::OutOfMemory,
            EngineError::NotObserved(_) | EngineError::Tensor(_) => Self::Internal,
        }
    }

    /// The stable reason of a failed read or write.
    pub fn of_io(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::InsufficientDisk,
            io::ErrorKind::PermissionDenied => Self::PermissionDenied,
            _ => Self::Io,
        }
    }
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_without_memory_is_told_apart_and_not_tried_again() {
        let code = |text: &str| {
            let error = candle_core::Error::Msg(text.to_owned());
            ErrorCode::of_engine(&EngineError::Tensor(error))
        };
        let full = code("DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")");
        assert_eq!((full, full.retryable()), (ErrorCode::OutOfMemory, false));
        assert_eq!(code("shape mismatch"), ErrorCode::Internal);
    }

    #[test]
    fn the_word_of_a_code_is_the_word_on_the_wire() {
        for code in ErrorCode::ALL {
            assert_eq!(serde_json::json!(code), serde_json::json!(code.as_str()));
        }
    }

    #[test]
    fn a_file_that_may_not_be_read_is_not_tried_again() {
        let code = |kind: io::ErrorKind| ErrorCode::of_io(&kind.into());
        assert!(!code(io::ErrorKind::PermissionDenied).retryable());
        assert!(code(io::ErrorKind::StorageFull).retryable());
        assert!(code(io::ErrorKind::BrokenPipe).retryable());
    }
}
