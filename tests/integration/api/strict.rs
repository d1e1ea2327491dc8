//! Requests that a careless server would put up with: unknown parameters, repeated fields, foreign hosts and origins.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::support::test_app::TestApp;

#[tokio::test]
async fn no_route_ignores_an_unknown_parameter() {
    let app = TestApp::api().await;
    let id = app.submit("m").await;
    let job = format!("/v1/jobs/{id}");
    for (method, path) in [
        (Method::POST, "/v1/jobs"),
        (Method::GET, "/v1/jobs"),
        (Method::GET, &job),
        (Method::POST, &format!("{job}/cancel")),
        (Method::GET, &format!("{job}/events")),
        (Method::GET, &format!("{job}/results")),
        (Method::GET, &format!("{job}/report")),
        (Method::GET, &format!("{job}/artifacts")),
        (Method::GET, &format!("{job}/artifacts/x")),
        (Method::GET, "/v1/capabilities"),
        (Method::GET, "/livez"),
        (Method::GET, "/readyz"),
        (Method::GET, "/version"),
        (Method::GET, "/"),
        (Method::GET, "/v1/models"),
        (Method::GET, &format!("{job}/archive")),
        (Method::GET, "/metrics"),
    ] {
        let request = app.request(method.clone(), &format!("{path}?colour=red"));
        let answer = app
            .send(request.json(&json!({"model": "demo", "sparsity": 0.5})))
            .await;
        assert_eq!(
            answer.status,
            StatusCode::BAD_REQUEST,
            "{method} {path}: {answer:?}"
        );
        assert_eq!(
            answer.json()["errors"][0]["code"],
            "unknown_parameter",
            "{path}"
        );
    }
    assert_eq!(app.get(&job).await.json()["status"], "queued");
}

#[tokio::test]
async fn a_parameter_that_is_no_text_is_refused() {
    let app = TestApp::api().await;
    let answer = app.get("/v1/jobs?model=%ff").await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert_eq!(answer.json()["errors"][0]["code"], "malformed_query");
    assert_eq!(
        app.get("/v1/jobs?model=%C3%A4").await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn more_pairs_of_metadata_than_a_job_has_are_not_looked_for() {
    let app = TestApp::api().await;
    let list = async |pairs: usize| {
        let pairs: Vec<_> = (0..pairs).map(|n| format!("metadata[{n}]=")).collect();
        app.get(&format!("/v1/jobs?{}", pairs.join("&"))).await
    };
    assert_eq!(list(16).await.status, StatusCode::OK);
    // SQLite takes no more than a thousand conditions.
    for pairs in [17, 1200] {
        let answer = list(pairs).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{answer:?}");
        let error = &answer.json()["errors"][0];
        assert_eq!(error["parameter"], "metadata", "{answer:?}");
        assert_eq!(error["code"], "out_of_range");
    }
}

#[tokio::test]
async fn a_field_that_is_given_twice_is_refused() {
    let app = TestApp::api().await;
    let request = app.request(Method::POST, "/v1/jobs");
    let body = "{\"model\": \"demo\", \"sparsity\": 0.5, \"sparsity\": 0.9}";
    let answer = app
        .send(
            request
                .header("content-type", "application/json")
                .body(body),
        )
        .await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    let error = &answer.json()["errors"][0];
    assert_eq!(
        (&error["pointer"], &error["code"]),
        (&json!("/sparsity"), &json!("duplicate_field"))
    );
}

#[tokio::test]
async fn other_names_and_other_origins_are_refused() {
    let app = TestApp::api().await;
    let body = json!({"model": "demo", "sparsity": 0.5});
    for (method, header, value, status, code) in [
        (
            Method::GET,
            "host",
            "rebound.example",
            421,
            "misdirected_request",
        ),
        (
            Method::POST,
            "host",
            "rebound.example:8484",
            421,
            "misdirected_request",
        ),
        (
            Method::POST,
            "origin",
            "https://evil.example",
            403,
            "cross_origin",
        ),
        (Method::POST, "origin", "null", 403, "cross_origin"),
        (
            Method::POST,
            "sec-fetch-site",
            "cross-site",
            403,
            "cross_origin",
        ),
    ] {
        let request = app
            .request(method, "/v1/jobs")
            .header(header, value)
            .json(&body);
        let answer = app.send(request).await;
        assert_eq!(answer.status.as_u16(), status, "{header}: {value}");
        assert_eq!(answer.json()["code"], code);
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
    }
    let local = app
        .request(Method::POST, "/v1/jobs")
        .header("host", "localhost:1");
    let local = local.header("origin", "http://localhost:1").json(&body);
    assert_eq!(app.send(local).await.status, StatusCode::ACCEPTED);
}

#[tokio::test]
async fn an_unknown_method_is_counted_as_one_of_many() {
    let app = TestApp::api().await;
    let method = Method::from_bytes(b"X123").unwrap();
    let answer = app.send(app.request(method, "/v1/jobs")).await;
    assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
    let metrics = String::from_utf8(app.get("/metrics").await.body).unwrap();
    assert!(
        metrics.contains("http_request_method=\"_OTHER\""),
        "{metrics}"
    );
    assert!(!metrics.contains("X123"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_length_over_the_limit_is_refused_before_the_body_comes() {
    let app = TestApp::api().await;
    let address = app.address();
    let answer = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(&address).unwrap();
        let head = format!(
            "POST /v1/jobs HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
             Content-Length: 99999999\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    });
    let answer = answer.await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert!(
        answer.contains("x-content-type-options: nosniff"),
        "{answer}"
    );
    assert!(answer.contains("\"payload_too_large\""), "{answer}");
}
