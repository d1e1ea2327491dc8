//! Whatever is wrong with a request, the answer is a problem document with a stable code, and the server stays up.

use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::support::test_app::{Answer, TestApp};

fn assert_problem(answer: &Answer, status: u16, code: &str) {
    assert_eq!(answer.status.as_u16(), status, "{answer:?}");
    assert_eq!(answer.header("content-type"), "application/problem+json");
    let problem = answer.json();
    assert_eq!(problem["code"], code, "{problem}");
    assert_eq!(problem["status"], status);
    assert_eq!(problem["request_id"], answer.header("x-request-id"));
    assert_eq!(problem["type"], format!("urn:secateur:error:{code}"));
    assert!(problem["retryable"].is_boolean());
}

#[tokio::test]
async fn all_wrong_fields_are_told_at_once() {
    let app = TestApp::api().await;
    let body = json!({"model": "../etc", "sparsity": 1.5, "pattern": "4:2", "sparsty": 0.5});
    let answer = app.post("/v1/jobs", &body).await;
    assert_problem(&answer, 400, "invalid_request");
    insta::assert_json_snapshot!(answer.json()["errors"], @r#"
    [
      {
        "code": "invalid_format",
        "detail": "\"../etc\" is not of the form organisation/name",
        "pointer": "/model"
      },
      {
        "code": "invalid_format",
        "detail": "in the pattern \"4:2\", N:M needs 1 <= N < M <= 64",
        "pointer": "/pattern"
      },
      {
        "code": "out_of_range",
        "detail": "1.5 is not within [0, 1)",
        "pointer": "/sparsity"
      },
      {
        "code": "unknown_field",
        "detail": "unknown field, expected one of type, name, metadata, run_after, priority, submitter, resources, deadline_seconds, on_duplicate, model, method, group, refine, refit, propagation, pattern, sparsity, rules, allocation, calibration, evaluation, artifact",
        "pointer": "/sparsty"
      }
    ]
    "#);
    assert_eq!(
        app.get("/v1/jobs").await.json()["data"],
        json!([]),
        "nothing was queued"
    );
}

#[tokio::test]
async fn a_data_set_that_is_nowhere_is_refused_before_anything_is_queued() {
    let app = TestApp::bare().await;
    let minimal = json!({"model": "org/name", "sparsity": 0.5, "pattern": "unstructured"});
    let answer = app.post("/v1/jobs", &minimal).await;
    assert_problem(&answer, 422, "dataset_not_found");
    insta::assert_json_snapshot!(answer.json()["errors"], @r#"
    [
      {
        "code": "dataset_not_found",
        "detail": "data set \"c4\" is not there: set SECATEUR_DATA_DIR to a directory with c4/en_train.jsonl or c4/en_train.jsonl.gz or c4/en_train_first1000.jsonl.gz; the hub has it, but HF_HUB_OFFLINE forbids asking for it and its cache does not hold it",
        "pointer": "/calibration"
      },
      {
        "code": "dataset_not_found",
        "detail": "data set \"wikitext2\" is not there: set SECATEUR_DATA_DIR to a directory with wikitext2/wiki.test.raw; the hub has it, but HF_HUB_OFFLINE forbids asking for it and its cache does not hold it",
        "pointer": "/evaluation/perplexity/0"
      }
    ]
    "#);
    let without_texts = json!({"model": "org/name", "sparsity": 0.5, "method": "magnitude", "evaluation": {"perplexity": []}});
    let bundled = json!({"model": "demo", "sparsity": 0.5});
    for body in [without_texts, bundled] {
        assert_eq!(
            app.post("/v1/jobs", &body).await.status,
            StatusCode::ACCEPTED
        );
    }
    let datasets = &app.get("/v1/capabilities").await.json()["datasets"];
    assert_eq!(
        *datasets,
        json!({"calibration": ["demo"], "evaluation": ["demo"]})
    );
}

#[tokio::test]
async fn a_server_that_lost_its_directory_does_not_blame_the_client() {
    let app = TestApp::api().await;
    std::fs::remove_dir_all(app.home().join("bundled/demo")).unwrap();
    let answer = app
        .post("/v1/jobs", &json!({"model": "demo", "sparsity": 0.5}))
        .await;
    assert_problem(&answer, 503, "unavailable");
}

#[tokio::test]
async fn bodies_that_cannot_be_read_are_refused() {
    let app = TestApp::api().await;
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let huge = format!("{{\"name\": \"{}\"}}", "x".repeat(100_000));
    let cases: [(&str, &str, Option<&str>, u16, &str); 7] = [
        ("{", "application/json", None, 400, "invalid_request"),
        ("", "application/json", None, 400, "invalid_request"),
        (
            "{\"sparsity\": NaN}",
            "application/json",
            None,
            400,
            "invalid_request",
        ),
        (&deep, "application/json", None, 400, "invalid_request"),
        (&huge, "application/json", None, 413, "payload_too_large"),
        ("{}", "text/plain", None, 415, "unsupported_media_type"),
        (
            "{}",
            "application/json",
            Some("gzip"),
            415,
            "unsupported_media_type",
        ),
    ];
    for (body, kind, encoding, status, code) in cases {
        let mut request = app
            .request(Method::POST, "/v1/jobs")
            .header(CONTENT_TYPE, kind)
            .body(body.to_owned());
        if let Some(encoding) = encoding {
            request = request.header("content-encoding", encoding);
        }
        assert_problem(&app.send(request).await, status, code);
    }
    let without_type = app.request(Method::POST, "/v1/jobs").body("{}");
    assert_problem(&app.send(without_type).await, 415, "unsupported_media_type");
    assert_eq!(app.get("/livez").await.status, StatusCode::OK);
}

async fn assert_problems(app: &TestApp, cases: &[(Method, &str, u16, &str)]) {
    for (method, path, status, code) in cases {
        let answer = app.send(app.request(method.clone(), path)).await;
        assert_eq!(
            answer.status.as_u16(),
            *status,
            "{method} {path}: {answer:?}"
        );
        assert_problem(&answer, *status, code);
    }
}

#[tokio::test]
async fn wrong_routes_and_methods_are_told_apart() {
    let app = TestApp::api().await;
    let cases = [
        (Method::GET, "/nowhere", 404, "route_not_found"),
        (Method::GET, "/v1", 404, "route_not_found"),
        (Method::GET, "/v1/jobs/x/nothing", 404, "route_not_found"),
        (Method::GET, "/docs/nothing.js", 404, "route_not_found"),
        (Method::DELETE, "/v1/jobs", 405, "method_not_allowed"),
        (Method::POST, "/livez", 405, "method_not_allowed"),
        (Method::GET, "/v1/jobs/x/cancel", 405, "method_not_allowed"),
    ];
    assert_problems(&app, &cases).await;
}

#[tokio::test]
async fn what_a_job_does_not_have_is_told_apart() {
    let app = TestApp::api().await;
    for id in ["job_019abcde0123789a8bcdef0123456789", "7", "..%2f..%2fetc"] {
        for rest in [
            "",
            "/events",
            "/results",
            "/report",
            "/artifacts",
            "/artifacts/x",
        ] {
            let path = format!("/v1/jobs/{id}{rest}");
            assert_problems(&app, &[(Method::GET, &path, 404, "job_not_found")]).await;
        }
        let path = format!("/v1/jobs/{id}/cancel");
        assert_problems(&app, &[(Method::POST, &path, 404, "job_not_found")]).await;
    }
    let id = app.submit("m").await;
    for (rest, status, code) in [
        ("results", 409, "results_not_ready"),
        ("report", 409, "results_not_ready"),
        ("artifacts", 409, "results_not_ready"),
        ("artifacts/x", 404, "artifact_not_found"),
        ("events?after=-1", 400, "invalid_request"),
    ] {
        assert_problems(
            &app,
            &[(Method::GET, &format!("/v1/jobs/{id}/{rest}"), status, code)],
        )
        .await;
    }
}

#[tokio::test]
async fn wrong_parameters_are_not_ignored() {
    let app = TestApp::api().await;
    for query in [
        "stat=queued",
        "status=done",
        "limit=0",
        "limit=101",
        "limit=1&limit=2",
        "cursor=x",
        "created_after=yesterday",
        "method=gpt",
    ] {
        let path = format!("/v1/jobs?{query}");
        assert_problems(&app, &[(Method::GET, &path, 400, "invalid_request")]).await;
    }
}

#[tokio::test]
async fn all_wrong_parameters_are_told_at_once() {
    let app = TestApp::api().await;
    let errors = app
        .get("/v1/jobs?limit=x&status=done&colour=red")
        .await
        .json()["errors"]
        .clone();
    let names: Vec<_> = errors
        .as_array()
        .unwrap()
        .iter()
        .map(|error| error["parameter"].clone())
        .collect();
    assert_eq!(names, ["status", "limit", "colour"]);
}

#[tokio::test]
async fn a_harmless_request_id_is_kept_and_any_other_replaced() {
    let app = TestApp::api().await;
    let ask = async |id: &str| {
        let answer = app
            .send(
                app.request(Method::GET, "/livez")
                    .header("x-request-id", id),
            )
            .await;
        answer.header("x-request-id").to_owned()
    };
    assert_eq!(ask("trace-1.2:3_4").await, "trace-1.2:3_4");
    for id in ["a b", "<script>", &"x".repeat(129)] {
        assert_ne!(ask(id).await, id);
    }
}

#[tokio::test]
async fn a_queue_that_is_full_takes_no_more_before_some_jobs_run() {
    let app = TestApp::api_with(|listen| listen.max_queued = 1).await;
    let id = app.submit("m").await;
    let body = json!({"model": "m", "sparsity": 0.5});
    let refused = app.post("/v1/jobs", &body).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.json()["code"], "unavailable");
    assert_eq!(refused.header("retry-after"), "5");
    app.post(&format!("/v1/jobs/{id}/cancel"), &json!({})).await;
    assert_eq!(
        app.post("/v1/jobs", &body).await.status,
        StatusCode::ACCEPTED
    );
    // Nor is one that was over, or was put aside, queued again.
    let retry = app.post(&format!("/v1/jobs/{id}/retry"), &json!({})).await;
    assert_eq!(retry.status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn a_queue_that_is_full_still_answers_with_the_job_that_does_the_same_work() {
    let app = TestApp::api_with(|listen| listen.max_queued = 1).await;
    let id = app.submit("m").await;
    let again =
        |sparsity: f64| json!({"model": "m", "sparsity": sparsity, "on_duplicate": "return"});
    let answer = app.post("/v1/jobs", &again(0.5)).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(answer.json()["id"], *id);
    let other = app.post("/v1/jobs", &again(0.6)).await;
    assert_eq!(other.status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn a_server_answers_for_the_hosts_that_it_was_given() {
    let app = TestApp::api_with(|listen| {
        listen.insecure_no_auth = true;
        listen.hosts = Some(vec!["secateur.example".to_owned()]);
    })
    .await;
    for (host, expected) in [
        ("secateur.example:8484", StatusCode::OK),
        ("rebound.example:8484", StatusCode::MISDIRECTED_REQUEST),
    ] {
        let request = app.request(Method::GET, "/v1/jobs").header("Host", host);
        assert_eq!(app.send(request).await.status, expected, "{host}");
    }
    // As a kubelet or a collector asks: by address.
    for path in ["/livez", "/readyz", "/metrics"] {
        let request = app
            .request(Method::GET, path)
            .header("Host", "10.1.2.3:8484");
        assert_eq!(app.send(request).await.status, StatusCode::OK, "{path}");
    }
}

#[tokio::test]
async fn a_server_without_a_list_of_hosts_answers_for_no_name_of_the_web() {
    let app = TestApp::api_with(|listen| listen.insecure_no_auth = true).await;
    for (host, expected) in [
        ("10.1.2.3:8484", StatusCode::OK),
        ("secateur:8484", StatusCode::OK),
        ("rebound.example:8484", StatusCode::MISDIRECTED_REQUEST),
    ] {
        let request = app.request(Method::GET, "/v1/jobs").header("Host", host);
        assert_eq!(app.send(request).await.status, expected, "{host}");
    }
}
