//! What goes wrong, as the client sees it: RFC 9457 problem details. The only place that knows status codes of errors.
//!
//! A handler's error carries its [`Problem`] as a response extension; the outermost layer adds the request id and
//! writes the body. So whatever fails between the two, the client gets the same shape.

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::domain::ErrorCode;
use crate::domain::job::state::JobState;
use crate::jobs;
use crate::request::FieldError;
use crate::webhooks;

/// Seconds after which a client may try again what failed for want of a part of the service.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("5");

/// So many faults of a request are told of.
const MOST_ERRORS: usize = 100;

/// Why a request was not answered with what it asked for.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApiError {
    #[error("the request is not valid")]
    Invalid(Vec<FieldProblem>),
    #[error("the request body is larger than {limit} bytes")]
    PayloadTooLarge { limit: usize },
    #[error("{0}")]
    UnsupportedMediaType(&'static str),
    #[error("no such route")]
    RouteNotFound,
    #[error("{0:?} is not the id of a job")]
    NotAJobId(String),
    #[error("{0:?} is not the id of a webhook")]
    NotAWebhookId(String),
    #[error("the route does not take this method")]
    MethodNotAllowed,
    #[error("the range lies outside the file of {size} bytes")]
    RangeNotSatisfiable { size: u64 },
    #[error("this server does not answer for the host that the request names")]
    MisdirectedRequest,
    #[error("the request comes from a page of another origin")]
    CrossOrigin,
    #[error("the request took longer than the server allows")]
    Timeout,
    #[error("as many streams are open as may be")]
    TooManyStreams,
    #[error("the request could not be handled")]
    Defect,
    #[error(transparent)]
    Jobs(#[from] jobs::Error),
    #[error(transparent)]
    Webhooks(#[from] webhooks::Error),
}

/// An error's body.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[schema(example = json!({
    "type": "urn:secateur:error:invalid_request", "title": "invalid request", "status": 400,
    "detail": "the request is not valid", "code": "invalid_request",
    "request_id": "019abcde-0123-789a-8bcd-ef0123456789", "retryable": false,
    "errors": [{"pointer": "/sparsity", "code": "out_of_range", "detail": "1.5 is not within [0, 1)"}]
}))]
pub(super) struct Problem {
    /// Names the code.
    #[serde(rename = "type")]
    kind: String,
    /// The code in words.
    title: String,
    /// The HTTP status.
    status: u16,
    /// What went wrong this time.
    detail: String,
    /// The stable reason: branch on this.
    code: ErrorCode,
    /// Leads to the server's log.
    pub(super) request_id: String,
    /// Whether the same request may succeed later.
    retryable: bool,
    /// Every wrong field, header or parameter.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldProblem>,
    /// The states in which a job allows what was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    allowed: Option<Vec<JobState>>,
}

/// One thing that is wrong with a request.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub(super) struct FieldProblem {
    /// Where in the body, as a JSON pointer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pointer: Option<String>,
    /// Which query parameter.
    #[serde(skip_serializing_if = "Option::is_none")]
    parameter: Option<String>,
    /// Which header.
    #[serde(skip_serializing_if = "Option::is_none")]
    header: Option<String>,
    /// The kind of mistake.
    code: String,
    /// What is wrong, with the facts.
    detail: String,
}

impl FieldProblem {
    pub(super) fn body(pointer: &str, code: &str, detail: String) -> Self {
        Self {
            pointer: Some(pointer.to_owned()),
            parameter: None,
            header: None,
            code: code.to_owned(),
            detail,
        }
    }

    pub(super) fn parameter(name: &str, code: &str, detail: String) -> Self {
        Self {
            pointer: None,
            parameter: Some(name.to_owned()),
            header: None,
            code: code.to_owned(),
            detail,
        }
    }

    pub(super) fn header(name: &HeaderName, code: &str, detail: String) -> Self {
        Self {
            pointer: None,
            parameter: None,
            header: Some(name.to_string()),
            code: code.to_owned(),
            detail,
        }
    }
}

impl From<FieldError> for FieldProblem {
    fn from(error: FieldError) -> Self {
        Self::body(&error.pointer, error.code, error.detail)
    }
}

impl Problem {
    pub(super) fn new(code: ErrorCode, detail: String) -> Self {
        Self {
            kind: format!("urn:secateur:error:{code}"),
            title: code.as_str().replace('_', " "),
            status: status(code).as_u16(),
            detail,
            code,
            request_id: String::new(),
            retryable: code.retryable(),
            errors: Vec::new(),
            allowed: None,
        }
    }
}

impl ApiError {
    fn problem(self) -> Problem {
        let message = self.to_string();
        match self {
            Self::Invalid(errors) => Problem {
                errors,
                ..Problem::new(ErrorCode::InvalidRequest, message)
            },
            Self::PayloadTooLarge { .. } => Problem::new(ErrorCode::PayloadTooLarge, message),
            Self::UnsupportedMediaType(_) => Problem::new(ErrorCode::UnsupportedMediaType, message),
            Self::RouteNotFound => Problem::new(ErrorCode::RouteNotFound, message),
            Self::NotAWebhookId(_) => Problem::new(ErrorCode::WebhookNotFound, message),
            Self::NotAJobId(_) => Problem::new(ErrorCode::JobNotFound, message),
            Self::MethodNotAllowed => Problem::new(ErrorCode::MethodNotAllowed, message),
            Self::RangeNotSatisfiable { .. } => {
                Problem::new(ErrorCode::RangeNotSatisfiable, message)
            }
            Self::MisdirectedRequest => Problem::new(ErrorCode::MisdirectedRequest, message),
            Self::CrossOrigin => Problem::new(ErrorCode::CrossOrigin, message),
            Self::Timeout => Problem::new(ErrorCode::RequestTimeout, message),
            Self::TooManyStreams => Problem::new(ErrorCode::Unavailable, message),
            Self::Defect => Problem::new(ErrorCode::Internal, message),
            Self::Jobs(error) => jobs_problem(error, message),
            Self::Webhooks(error) => webhooks_problem(error, message),
        }
    }
}

fn jobs_problem(error: jobs::Error, message: String) -> Problem {
    match error {
        jobs::Error::Invalid(errors) => {
            let errors = errors.into_iter().map(FieldProblem::from).collect();
            Problem {
                errors,
                ..Problem::new(ErrorCode::InvalidRequest, message)
            }
        }
        jobs::Error::Refused(refusals) => {
            let code = refusals
                .first()
                .map_or(ErrorCode::InvalidRequest, |refusal| refusal.code);
            let errors = refusals.into_iter();
            let errors = errors
                .map(|r| FieldProblem::body(&r.pointer, r.code.as_str(), r.detail))
                .collect();
            Problem {
                errors,
                ..Problem::new(code, message)
            }
        }
        jobs::Error::Unchecked(error) => unavailable(&*error),
        jobs::Error::Full(_) => Problem::new(ErrorCode::Unavailable, message),
        jobs::Error::InUse { .. } => Problem::new(ErrorCode::ArtifactInUse, message),
        jobs::Error::KeyReused => Problem::new(ErrorCode::IdempotencyKeyReused, message),
        jobs::Error::JobNotFound(_) => Problem::new(ErrorCode::JobNotFound, message),
        jobs::Error::WorkerNotFound(_) => Problem::new(ErrorCode::WorkerNotFound, message),
        jobs::Error::ResultsNotReady { state, .. } => {
            // A job that is over will never have any.
            Problem {
                retryable: !state.is_terminal(),
                ..Problem::new(ErrorCode::ResultsNotReady, message)
            }
        }
        jobs::Error::ArtifactNotFound { .. } => Problem::new(ErrorCode::ArtifactNotFound, message),
        jobs::Error::NotAllowed { action, .. } => Problem {
            allowed: Some(action.allowed_in()),
            ..Problem::new(ErrorCode::InvalidTransition, message)
        },
        jobs::Error::Stale { .. } => Problem::new(ErrorCode::VersionMismatch, message),
        jobs::Error::Store(error) => {
            if error.is_transient() {
                unavailable(&error)
            } else {
                defect(&error)
            }
        }
        jobs::Error::Artifacts(error) => unavailable(&error),
        jobs::Error::ArtifactDamaged { .. } | jobs::Error::Unreadable { .. } => defect(&error),
    }
}

fn webhooks_problem(error: webhooks::Error, message: String) -> Problem {
    match error {
        webhooks::Error::Invalid(errors) => {
            let errors = errors.into_iter().map(FieldProblem::from).collect();
            Problem {
                errors,
                ..Problem::new(ErrorCode::InvalidRequest, message)
            }
        }
        webhooks::Error::NotFound(_) => Problem::new(ErrorCode::WebhookNotFound, message),
        webhooks::Error::DeliveryNotFound { .. } => {
            Problem::new(ErrorCode::DeliveryNotFound, message)
        }
        webhooks::Error::Disabled(_) => Problem::new(ErrorCode::WebhookDisabled, message),
        webhooks::Error::TooMany => Problem::new(ErrorCode::TooManyWebhooks, message),
        webhooks::Error::Random(error) => defect(&error),
        webhooks::Error::Store(error) => {
            if error.is_transient() {
                unavailable(&error)
            } else {
                defect(&error)
            }
        }
    }
}

/// For the log the cause, for the client the request id that leads there.
fn unavailable(error: &(dyn std::error::Error + 'static)) -> Problem {
    hidden(
        ErrorCode::Unavailable,
        "a part of the service does not answer",
        error,
    )
}

/// The same for what should never happen.
fn defect(error: &(dyn std::error::Error + 'static)) -> Problem {
    hidden(
        ErrorCode::Internal,
        "the request could not be handled",
        error,
    )
}

fn hidden(code: ErrorCode, detail: &str, error: &(dyn std::error::Error + 'static)) -> Problem {
    tracing::error!(error, code = code.as_str(), "request failed");
    Problem::new(code, detail.to_owned())
}

/// The status of each code. Codes that only a job can end with are 422 where a submission is refused for them.
pub(super) fn status(code: ErrorCode) -> StatusCode {
    match code {
        ErrorCode::InvalidRequest => StatusCode::BAD_REQUEST,
        ErrorCode::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorCode::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ErrorCode::RouteNotFound
        | ErrorCode::JobNotFound
        | ErrorCode::WorkerNotFound
        | ErrorCode::ArtifactNotFound
        | ErrorCode::WebhookNotFound
        | ErrorCode::DeliveryNotFound => StatusCode::NOT_FOUND,
        ErrorCode::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        ErrorCode::ResultsNotReady
        | ErrorCode::InvalidTransition
        | ErrorCode::ArtifactInUse
        | ErrorCode::WebhookDisabled
        | ErrorCode::TooManyWebhooks => StatusCode::CONFLICT,
        ErrorCode::VersionMismatch => StatusCode::PRECONDITION_FAILED,
        ErrorCode::RangeNotSatisfiable => StatusCode::RANGE_NOT_SATISFIABLE,
        ErrorCode::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
        ErrorCode::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorCode::MisdirectedRequest => StatusCode::MISDIRECTED_REQUEST,
        ErrorCode::CrossOrigin => StatusCode::FORBIDDEN,
        ErrorCode::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        ErrorCode::IdempotencyKeyReused
        | ErrorCode::ModelNotFound
        | ErrorCode::ModelAccessDenied
        | ErrorCode::HubUnavailable
        | ErrorCode::DownloadCorrupt
        | ErrorCode::UnsupportedArchitecture
        | ErrorCode::UnsafeFormat
        | ErrorCode::InvalidConfig
        | ErrorCode::MalformedCheckpoint
        | ErrorCode::MissingShard
        | ErrorCode::MissingTensor
        | ErrorCode::PatternMismatch
        | ErrorCode::TokenizerMissing
        | ErrorCode::TokenizerInvalid
        | ErrorCode::DatasetNotFound
        | ErrorCode::DatasetInvalid
        | ErrorCode::TextTooShort
        | ErrorCode::ContextTooLong
        | ErrorCode::BaselineMismatch
        | ErrorCode::SeqLenTooLong
        | ErrorCode::NonFinite
        | ErrorCode::OutputExists
        | ErrorCode::InsufficientDisk
        | ErrorCode::DeviceUnavailable
        | ErrorCode::Io
        | ErrorCode::WorkerCrashed
        | ErrorCode::DeadlineExceeded
        | ErrorCode::Cancelled => StatusCode::UNPROCESSABLE_ENTITY,
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let content_range = if let Self::RangeNotSatisfiable { size } = &self {
            HeaderValue::try_from(format!("bytes */{size}")).ok()
        } else {
            None
        };
        let mut problem = self.problem();
        problem.errors.truncate(MOST_ERRORS);
        let status = status(problem.code);
        let mut response = status.into_response();
        if let Some(value) = content_range {
            response.headers_mut().insert(header::CONTENT_RANGE, value);
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        response.extensions_mut().insert(problem);
        response
    }
}
