//! The document that describes the API, made from the handlers.

mod schemas;

use std::collections::BTreeMap;

use axum::http::StatusCode;
use serde_json::{Value, json};
use utoipa::OpenApi;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::{
    Content, ContentBuilder, OpenApi as Document, Ref, RefOr, Response, ResponseBuilder,
};
use utoipa_axum::router::OpenApiRouter;

use super::output::problem::{Problem, ProblemBody, status};
use super::{HttpState, routes};
use crate::domain::ErrorCode;

/// The media type of an error.
const PROBLEM: &str = "application/problem+json";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Secateur",
        description = "Pruning as a service for large language models. Every error is a problem document (RFC 9457) with a stable `code`.\n\nEvery route below `/v1/jobs` is also served below `/jobs`.",
    ),
    servers((url = "/", description = "The server that this document comes from")),
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
pub fn document() -> Value {
    completed(routes().into_openapi())
}

/// Adds the errors with their bodies and examples, and makes it fit for generators of clients.
pub(super) fn completed(mut document: Document) -> Value {
    let mut errors = BTreeMap::new();
    for item in document.paths.paths.values_mut() {
        name_head(item);
        let PathItem {
            get,
            post,
            patch,
            head,
            delete,
            ..
        } = item;
        let operations = [get, post, patch, head, delete];
        for operation in operations.into_iter().flatten() {
            complete(operation);
            share_errors(operation, &mut errors);
        }
    }
    let components = document.components.get_or_insert_default();
    components.responses.extend(errors);
    let mut document = json!(document);
    schemas::simplify(&mut document);
    document
}

/// A handler of `GET` and `HEAD` is two operations, which need two ids.
fn name_head(item: &mut PathItem) {
    let head = item.head.as_mut();
    if let Some(id) = head.and_then(|operation| operation.operation_id.as_mut()) {
        *id = format!("head_{}", id.trim_start_matches("get_"));
    }
}

/// Puts the responses that only say an error's code among the components, by the codes.
fn share_errors(operation: &mut Operation, shared: &mut BTreeMap<String, RefOr<Response>>) {
    for response in operation.responses.responses.values_mut() {
        let RefOr::T(described) = response else {
            continue;
        };
        let codes: Vec<_> = codes(described).map(schemas::pascal_case).collect();
        if described.content.contains_key(PROBLEM) && codes.len() <= 2 {
            let name = codes.join("Or");
            let reference = RefOr::Ref(Ref::from_response_name(&name));
            shared.insert(name, std::mem::replace(response, reference));
        }
    }
}

/// The codes that a response's description names.
fn codes(response: &Response) -> impl Iterator<Item = &str> {
    response.description.split('`').skip(1).step_by(2)
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
            response
                .content
                .insert(PROBLEM.to_owned(), RefOr::T(problem_content(response)));
        }
    }
}

/// The description of an error response begins with its code.
fn problem_content(response: &Response) -> Content {
    let word = codes(response).next().unwrap_or_default();
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
