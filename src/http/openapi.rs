//! The document that describes the API, made from the handlers.

use axum::http::StatusCode;
use serde_json::json;
use utoipa::OpenApi;
use utoipa::openapi::path::Operation;
use utoipa::openapi::{
    Content, ContentBuilder, OpenApi as Document, Ref, RefOr, Response, ResponseBuilder,
};
use utoipa_axum::router::OpenApiRouter;

use super::output::problem::{Problem, ProblemBody, status};
use super::{HttpState, routes};
use crate::domain::ErrorCode;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Secateur",
        description = "Pruning as a service for large language models. Every error is a problem document (RFC 9457) with a stable `code`.\n\nEvery route below `/v1/jobs` is also served below `/jobs`.",
    ),
    components(schemas(ProblemBody)),
    tags(
        (name = "jobs", description = "Submit, watch, and steer"),
        (name = "results", description = "Numbers and files"),
        (name = "webhooks", description = "Receive events, as Standard Webhooks 1.0 says"),
        (name = "workers", description = "Who runs jobs, and what waits for them"),
        (name = "operations", description = "What operators need"),
    )
)]
struct Base;

/// Every documented route.
pub(super) fn routes() -> OpenApiRouter<HttpState> {
    routes::all(OpenApiRouter::with_openapi(Base::openapi()))
}

/// The whole document.
pub fn document() -> Document {
    completed(routes().into_openapi())
}

/// Adds bodies and examples to error responses, and the errors common to all operations.
pub(super) fn completed(mut document: Document) -> Document {
    for item in document.paths.paths.values_mut() {
        let operations = [
            &mut item.get,
            &mut item.post,
            &mut item.head,
            &mut item.delete,
        ];
        for operation in operations.into_iter().flatten() {
            complete(operation);
        }
    }
    document
}

fn complete(operation: &mut Operation) {
    for code in [
        ErrorCode::InvalidRequest,
        ErrorCode::RequestTimeout,
        ErrorCode::MisdirectedRequest,
        ErrorCode::Internal,
        ErrorCode::Unavailable,
    ] {
        let responses = &mut operation.responses.responses;
        let response = || {
            ResponseBuilder::new()
                .description(format!("`{code}`"))
                .build()
        };
        responses
            .entry(status(code).as_u16().to_string())
            .or_insert_with(|| RefOr::T(response()));
    }
    for (status, response) in &mut operation.responses.responses {
        let is_error = status
            .parse()
            .ok()
            .and_then(|code| StatusCode::from_u16(code).ok());
        let is_error =
            is_error.is_some_and(|status| status.is_client_error() || status.is_server_error());
        if let RefOr::T(response) = response
            && is_error
            && response.content.is_empty()
        {
            response.content.insert(
                "application/problem+json".to_owned(),
                RefOr::T(problem_content(response)),
            );
        }
    }
}

/// The description of an error response begins with its code.
fn problem_content(response: &Response) -> Content {
    let word = response.description.split('`').nth(1).unwrap_or_default();
    let code = ErrorCode::ALL
        .iter()
        .find(|code| code.as_str() == word)
        .copied();
    let code = code
        .unwrap_or_else(|| unreachable!("a test builds the document: {word:?} is no error code"));
    let problem = Problem::new(code, "what went wrong this time");
    let request_id = "019abcde-0123-789a-8bcd-ef0123456789".to_owned();
    let example = json!(ProblemBody::new(problem, request_id));
    ContentBuilder::new()
        .schema(Some(Ref::from_schema_name("Problem")))
        .example(Some(example))
        .build()
}
