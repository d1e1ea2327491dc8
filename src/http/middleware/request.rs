//! The outermost layer: request id, span, deadline, metrics, and the body of errors.

use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tracing::{Instrument as _, Span, field};
use uuid::Uuid;

use crate::config::RequestLimits;
use crate::http::input::preferences;
use crate::http::output::problem::{Problem, ProblemBody};
use crate::http::routes::operations;
use crate::instruments;
use crate::traces::{self, TRACEPARENT};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const NO_SNIFF: HeaderValue = HeaderValue::from_static("nosniff");
/// The pages run their own scripts only, and no page of another origin shows them.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);
/// What may have changed by the next request is asked for again, and is kept by no proxy.
const REVALIDATE: HeaderValue = HeaderValue::from_static("private, no-cache");
const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

/// The outermost layer.
pub(in crate::http) async fn around(
    State(limits): State<RequestLimits>,
    request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    let request_id = accepted_request_id(&request).unwrap_or_else(|| Uuid::now_v7().to_string());
    let method = known_method(request.method());
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or("none", MatchedPath::as_str)
        .to_owned();
    let path = request.uri().path().to_owned();
    let span = tracing::info_span!(
        "request",
        request.id = request_id,
        http.method = method,
        http.route = route,
        otel.kind = "server",
        otel.name = format!("{method} {route}"),
        http.response.status_code = field::Empty,
        trace.id = field::Empty,
    );
    let traceparent = request.headers().get(TRACEPARENT);
    let traceparent = traceparent.and_then(|value| value.to_str().ok());
    traces::continue_from(&span, traceparent.unwrap_or_default());

    let mut response = async {
        let deadline = limits.request + preferences::wait(request.headers()).unwrap_or_default();
        let answered = tokio::time::timeout(deadline, next.run(request)).await;
        let response = answered.unwrap_or_else(|_elapsed| Problem::timeout().into_response());
        let response = with_problem_body(response, &request_id);
        Span::current().record("http.response.status_code", response.status().as_u16());
        log_access(&path, response.status(), started);
        response
    }
    .instrument(span)
    .await;

    let labels = [
        ("http_request_method", method.to_owned()),
        ("http_route", route),
        (
            "http_response_status_code",
            response.status().as_str().to_owned(),
        ),
    ];
    metrics::histogram!(instruments::REQUEST_SECONDS, &labels)
        .record(started.elapsed().as_secs_f64());
    if let Ok(value) = HeaderValue::try_from(request_id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, NO_SNIFF);
    headers.insert(header::CONTENT_SECURITY_POLICY, POLICY);
    headers.entry(header::CACHE_CONTROL).or_insert(REVALIDATE);
    response
}

/// The access log. Probes come every few seconds, and say nothing new.
fn log_access(path: &str, status: StatusCode, started: Instant) {
    let status = status.as_u16();
    let duration_s = started.elapsed().as_secs_f64();
    if operations::PROBED.contains(&path) {
        tracing::debug!(path, status, duration_s, "answered");
    } else {
        tracing::info!(path, status, duration_s, "answered");
    }
}

/// Keeps the values of the label few.
fn known_method(method: &Method) -> &'static str {
    const KNOWN: [&str; 9] = [
        "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH",
    ];
    let known = KNOWN.into_iter().find(|known| *known == method.as_str());
    known.unwrap_or("_OTHER")
}

/// The client's own id, if it is harmless in logs and headers.
fn accepted_request_id(request: &Request) -> Option<String> {
    let id = request.headers().get(REQUEST_ID)?.to_str().ok()?;
    let is_harmless = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':');
    ((1..=128).contains(&id.len()) && id.bytes().all(is_harmless)).then(|| id.to_owned())
}

fn with_problem_body(mut response: Response, request_id: &str) -> Response {
    let problem = response
        .extensions_mut()
        .remove::<Problem>()
        .or_else(|| problem_of_others(&response));
    let Some(problem) = problem else {
        return response;
    };
    let problem = ProblemBody::new(problem, request_id.to_owned());
    let (mut parts, _) = response.into_parts();
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.insert(header::CONTENT_TYPE, PROBLEM_JSON);
    let body = serde_json::to_vec(&problem).unwrap_or_default();
    Response::from_parts(parts, body.into())
}

/// The problem of a route that another crate serves, such as the API's pages.
fn problem_of_others(response: &Response) -> Option<Problem> {
    let is_ours = |kind: &HeaderValue| kind.as_bytes().starts_with(b"application/");
    if response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(is_ours)
    {
        return None;
    }
    let error = match response.status() {
        StatusCode::NOT_FOUND => Problem::route_not_found(),
        StatusCode::METHOD_NOT_ALLOWED => Problem::method_not_allowed(),
        status if status.is_server_error() => Problem::defect(),
        _ => return None,
    };
    error.into_response().extensions_mut().remove()
}

/// A handler that panicked has answered nothing; the log has its message.
#[expect(
    clippy::needless_pass_by_value,
    reason = "the signature that the layer asks for"
)]
pub(in crate::http) fn panicked(panic: Box<dyn std::any::Any + Send>) -> Response {
    let message = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let message = message
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default();
    tracing::error!(message, "a handler panicked");
    Problem::defect().into_response()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::Router;
    use axum::body::Body;
    use axum::middleware::from_fn_with_state;
    use axum::routing::get;
    use http_body_util::BodyExt;
    use tower::ServiceExt;
    use tower_http::catch_panic::CatchPanicLayer;

    use super::*;
    use crate::domain::{ErrorCode, Refusal};
    use crate::jobs;

    async fn answer(router: Router) -> (StatusCode, serde_json::Value) {
        let limits = from_fn_with_state(RequestLimits::default(), around);
        let router = router
            .layer(CatchPanicLayer::custom(panicked))
            .layer(limits);
        let request = Request::get("/")
            .header(REQUEST_ID, "mine")
            .body(Body::empty())
            .unwrap();
        let response = router.oneshot(request).await.unwrap();
        assert_eq!(response.headers()[REQUEST_ID], "mine");
        assert_eq!(response.headers()[header::CONTENT_TYPE], PROBLEM_JSON);
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn a_panic_is_a_problem_that_tells_nothing() {
        async fn broken() -> &'static str {
            panic!("the secret cause")
        }
        let (status, problem) = answer(Router::new().route("/", get(broken))).await;
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(
            (&problem["code"], &problem["request_id"]),
            (&"internal".into(), &"mine".into())
        );
        assert!(!problem.to_string().contains("secret"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_handler_that_never_ends_is_a_timeout() {
        let (status, problem) =
            answer(Router::new().route("/", get(std::future::pending::<()>))).await;
        assert_eq!(
            (status, &problem["code"]),
            (StatusCode::REQUEST_TIMEOUT, &"request_timeout".into())
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_may_be_longer_than_other_requests() {
        async fn slow() -> &'static str {
            let longer = RequestLimits::default().request + Duration::from_secs(1);
            tokio::time::sleep(longer).await;
            "done"
        }
        let status = async |preference: Option<&str>| {
            let router = Router::new().route("/", get(slow));
            let limits = from_fn_with_state(RequestLimits::default(), around);
            let mut request = Request::get("/");
            if let Some(preference) = preference {
                request = request.header("prefer", preference);
            }
            let request = request.body(Body::empty()).unwrap();
            router
                .layer(limits)
                .oneshot(request)
                .await
                .unwrap()
                .status()
        };
        assert_eq!(status(None).await, StatusCode::REQUEST_TIMEOUT);
        assert_eq!(status(Some("wait=2")).await, StatusCode::OK);
    }

    #[tokio::test]
    async fn a_refused_submission_has_the_code_of_its_first_reason() {
        async fn refused() -> Problem {
            let refusal = |pointer, code| Refusal {
                pointer: String::from(pointer),
                code,
                detail: "because".to_owned(),
            };
            Problem::from(jobs::Error::Refused(vec![
                refusal("/model", ErrorCode::UnsupportedArchitecture),
                refusal("/pattern", ErrorCode::PatternMismatch),
            ]))
        }
        let (status, problem) = answer(Router::new().route("/", get(refused))).await;
        assert_eq!(
            (status, &problem["code"]),
            (
                StatusCode::UNPROCESSABLE_ENTITY,
                &"unsupported_architecture".into()
            )
        );
        assert_eq!(problem["errors"][1]["code"], "pattern_mismatch");
    }

    #[tokio::test]
    async fn an_unreachable_database_is_told_without_its_reason() {
        async fn away() -> Problem {
            let source = sqlx::Error::Protocol("the secret cause".to_owned());
            Problem::from(crate::jobs::Error::Store(
                crate::store::StoreError::Statement {
                    operation: "x",
                    source,
                },
            ))
        }
        let (status, problem) = answer(Router::new().route("/", get(away))).await;
        assert_eq!(
            (status, &problem["code"]),
            (StatusCode::SERVICE_UNAVAILABLE, &"unavailable".into())
        );
        assert!(!problem.to_string().contains("secret"));
    }
}
