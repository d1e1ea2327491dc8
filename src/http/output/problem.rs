//! Errors as clients see them: problem details (RFC 9457).
//!
//! A response carries its [`Problem`] as an extension; the outermost layer adds the request id and writes the body. So
//! whatever fails between the two, the client gets the same shape.

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::domain::job::state::JobState;
use crate::domain::{ErrorCode, Refusal};
use crate::jobs;
use crate::request::FieldError;
use crate::webhooks;

/// Seconds after which a client may retry while the service is unavailable.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("5");

/// The most field errors that one answer lists.
const MAX_ERRORS: usize = 100;

/// Why a request failed.
#[derive(Debug, Clone)]
pub(in crate::http) struct Problem {
    code: ErrorCode,
    detail: String,
    retryable: bool,
    errors: Vec<FieldProblem>,
    allowed: Option<Vec<JobState>>,
}

/// An error's body.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[schema(as = Problem, example = json!({
    "type": "urn:secateur:error:invalid_request", "title": "invalid request", "status": 400,
    "detail": "the request is not valid", "code": "invalid_request",
    "request_id": "019abcde-0123-789a-8bcd-ef0123456789", "retryable": false,
    "errors": [{"pointer": "/sparsity", "code": "out_of_range", "detail": "1.5 is not within [0, 1)"}]
}))]
pub(in crate::http) struct ProblemBody {
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
    request_id: String,
    /// Whether the same request may succeed later.
    retryable: bool,
    /// Every wrong field, header or parameter.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldProblem>,
    /// The states in which a job allows the action.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    allowed: Option<Vec<JobState>>,
}

/// One thing that is wrong with a request.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub(in crate::http) struct FieldProblem {
    /// Where in the body, as a JSON pointer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pointer: Option<String>,
    /// Which query parameter.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    parameter: Option<String>,
    /// Which header.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    header: Option<String>,
    /// The kind of mistake.
    code: String,
    /// What is wrong, with the facts.
    detail: String,
}

impl Problem {
    /// A failure for this reason.
    pub(in crate::http) fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
            retryable: code.retryable(),
            errors: Vec::new(),
            allowed: None,
        }
    }

    /// A request with wrong fields, headers or parameters.
    pub(in crate::http) fn invalid(errors: Vec<FieldProblem>) -> Self {
        Self {
            errors,
            ..Self::new(ErrorCode::InvalidRequest, "the request is not valid")
        }
    }

    pub(in crate::http) fn route_not_found() -> Self {
        Self::new(ErrorCode::RouteNotFound, "no such route")
    }

    pub(in crate::http) fn method_not_allowed() -> Self {
        let detail = "the route does not take this method";
        Self::new(ErrorCode::MethodNotAllowed, detail)
    }

    pub(in crate::http) fn timeout() -> Self {
        let detail = "the request took longer than the server allows";
        Self::new(ErrorCode::RequestTimeout, detail)
    }

    /// A defect of the service.
    pub(in crate::http) fn defect() -> Self {
        Self::new(ErrorCode::Internal, "the request could not be handled")
    }

    /// The cause goes to the log; the client gets the request id that leads there.
    fn hidden(code: ErrorCode, error: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error, code = code.as_str(), "request failed");
        match code {
            ErrorCode::Unavailable => Self::new(code, "a part of the service does not answer"),
            _ => Self::defect(),
        }
    }
}

impl From<jobs::Error> for Problem {
    fn from(error: jobs::Error) -> Self {
        let code = error.code();
        if error.is_hidden() {
            return Self::hidden(code, &error);
        }
        let problem = Self::new(code, error.to_string());
        match error {
            jobs::Error::Invalid(errors) => Self {
                errors: errors.into_iter().map(FieldProblem::from).collect(),
                ..problem
            },
            jobs::Error::Refused(refusals) => Self {
                errors: refusals.iter().map(FieldProblem::from).collect(),
                ..problem
            },
            // A job that is over will never have results.
            jobs::Error::ResultsNotReady { state, .. } => Self {
                retryable: !state.is_terminal(),
                ..problem
            },
            jobs::Error::NotAllowed { action, .. } => Self {
                allowed: Some(action.allowed_in()),
                ..problem
            },
            _ => problem,
        }
    }
}

impl From<webhooks::Error> for Problem {
    fn from(error: webhooks::Error) -> Self {
        let code = error.code();
        if error.is_hidden() {
            return Self::hidden(code, &error);
        }
        let problem = Self::new(code, error.to_string());
        match error {
            webhooks::Error::Invalid(errors) => Self {
                errors: errors.into_iter().map(FieldProblem::from).collect(),
                ..problem
            },
            _ => problem,
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = status(self.code);
        let mut response = status.into_response();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            let headers = response.headers_mut();
            headers.insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        response.extensions_mut().insert(self);
        response
    }
}

impl ProblemBody {
    pub(in crate::http) fn new(problem: Problem, request_id: String) -> Self {
        let Problem {
            code, mut errors, ..
        } = problem;
        errors.truncate(MAX_ERRORS);
        Self {
            kind: format!("urn:secateur:error:{code}"),
            title: code.as_str().replace('_', " "),
            status: status(code).as_u16(),
            detail: problem.detail,
            code,
            request_id,
            retryable: problem.retryable,
            errors,
            allowed: problem.allowed,
        }
    }
}

/// The HTTP status of a code.
pub(in crate::http) fn status(code: ErrorCode) -> StatusCode {
    StatusCode::from_u16(code.status())
        .unwrap_or_else(|error| unreachable!("a test reads the table of codes: {error}"))
}

impl FieldProblem {
    pub(in crate::http) fn body(pointer: &str, code: &str, detail: String) -> Self {
        Self {
            pointer: Some(pointer.to_owned()),
            ..Self::new(code, detail)
        }
    }

    pub(in crate::http) fn parameter(name: &str, code: &str, detail: String) -> Self {
        Self {
            parameter: Some(name.to_owned()),
            ..Self::new(code, detail)
        }
    }

    pub(in crate::http) fn header(name: &HeaderName, code: &str, detail: String) -> Self {
        Self {
            header: Some(name.to_string()),
            ..Self::new(code, detail)
        }
    }

    fn new(code: &str, detail: String) -> Self {
        Self {
            pointer: None,
            parameter: None,
            header: None,
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

impl From<&Refusal> for FieldProblem {
    fn from(refusal: &Refusal) -> Self {
        let code = refusal.code.as_str();
        Self::body(&refusal.pointer, code, refusal.detail.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_the_status_of_an_error() {
        for code in ErrorCode::ALL {
            let status = status(*code);
            assert!(
                status.is_client_error() || status.is_server_error(),
                "{code}"
            );
        }
    }
}
