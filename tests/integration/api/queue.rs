//! Workers, the queue, and what a submission says about its place in it.

use std::time::Duration;

use reqwest::StatusCode;
use secateur::domain::worker::WorkerProfile;

use serde_json::{Value, json};

use crate::support::test_app::TestApp;

const LEASE: Duration = Duration::from_mins(5);

fn body(more: &Value) -> Value {
    let mut body = json!({"model": {"source": "local", "id": "m"}, "sparsity": 0.5});
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

async fn accepted(app: &TestApp, more: &Value) -> Value {
    let answer = app.post("/v1/jobs", &body(more)).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
    answer.json()
}

/// A worker that does nothing, with this much memory.
async fn announce(app: &TestApp, id: &str, memory_bytes: u64) {
    let devices = ["cpu".to_owned()];
    let profile = WorkerProfile::new(
        id.to_owned(),
        "host".to_owned(),
        &devices,
        Some(memory_bytes),
    );
    let store = app.store().await;
    store
        .announce_worker(&profile.unwrap(), LEASE)
        .await
        .unwrap();
}

async fn post(app: &TestApp, path: &str) -> Value {
    let answer = app.send(app.request(reqwest::Method::POST, path)).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    answer.json()
}

#[tokio::test]
async fn a_job_tells_how_it_was_submitted_and_why_it_waits() {
    let app = TestApp::api().await;
    let plain = accepted(&app, &json!({})).await;
    assert_eq!(
        (&plain["priority"], &plain["submitter"], &plain["run_after"]),
        (&json!(0), &json!(""), &Value::Null)
    );
    assert_eq!(plain["resources"]["device"], Value::Null);
    let memory = plain["estimate"]["memory_bytes"].as_u64().unwrap();
    assert!(memory > 64 << 20, "{memory}");
    assert_eq!(plain["status_reason"], "no_worker");

    announce(&app, "worker_1", 64 << 30).await;
    let chosen = json!({
        "priority": 7, "submitter": "night batch", "run_after": "2999-01-01T00:00:00Z", "resources": {"device": "cuda"},
    });
    let job = accepted(&app, &chosen).await;
    for field in ["priority", "submitter", "run_after"] {
        assert_eq!(job[field], chosen[field], "{field}");
    }
    assert_eq!(job["resources"]["device"], "cuda");
    assert_eq!(job["status_reason"], "scheduled");
    let on_cuda = accepted(&app, &json!({"resources": {"device": "cuda"}})).await;
    assert_eq!(
        (&on_cuda["status_reason"], &on_cuda["status_detail"]),
        (
            &json!("no_worker_fits"),
            &json!("needs cuda, no worker has one")
        )
    );
    let listed = app.get("/v1/jobs").await.json();
    let reasons: Vec<_> = listed["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|job| job["status_reason"].as_str().unwrap())
        .collect();
    assert_eq!(
        reasons,
        ["no_worker_fits", "scheduled", "waiting_for_worker"]
    );
    let hub = accepted(
        &app,
        &json!({"model": "org/name", "method": "magnitude", "evaluation": {"perplexity": []}}),
    )
    .await;
    assert_eq!(hub["estimate"]["memory_bytes"], Value::Null);
}

#[tokio::test]
async fn a_job_that_is_too_big_says_so() {
    let app = TestApp::api().await;
    announce(&app, "worker_1", 1 << 20).await;
    let job = accepted(&app, &json!({})).await;
    assert_eq!(job["status_reason"], "no_worker_fits");
    let detail = job["status_detail"].as_str().unwrap();
    assert!(
        detail.contains("the largest worker that suits has 1 MiB"),
        "{detail}"
    );
}

#[tokio::test]
async fn wrong_fields_are_told_together() {
    let app = TestApp::api().await;
    let wrong = json!({
        "priority": 101, "submitter": "a\nb", "run_after": "tomorrow", "resources": {"device": "tpu", "memory": 1},
    });
    let answer = app.post("/v1/jobs", &body(&wrong)).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    let errors = answer.json()["errors"].clone();
    let mut found: Vec<_> = errors
        .as_array()
        .unwrap()
        .iter()
        .map(|error| {
            (
                error["pointer"].as_str().unwrap(),
                error["code"].as_str().unwrap(),
            )
        })
        .collect();
    found.sort_unstable();
    let expected = [
        ("/priority", "out_of_range"),
        ("/resources/device", "unsupported"),
        ("/resources/memory", "unknown_field"),
        ("/run_after", "invalid_format"),
        ("/submitter", "invalid_format"),
    ];
    assert_eq!(found, expected);
    let long = "x".repeat(65);
    for (field, value) in [
        ("submitter", json!(long)),
        ("priority", json!(-101)),
        ("priority", json!(0.5)),
        ("run_after", json!(5)),
        ("resources", json!("cpu")),
    ] {
        let answer = app.post("/v1/jobs", &body(&json!({field: value}))).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{field} {value}");
        assert_eq!(answer.json()["errors"][0]["pointer"], format!("/{field}"));
    }
}

#[tokio::test]
async fn jobs_can_be_listed_by_their_submitter() {
    let app = TestApp::api().await;
    accepted(&app, &json!({})).await;
    let named = accepted(&app, &json!({"submitter": "a b"})).await;
    let found = async |query: &str| {
        let listed = app.get(&format!("/v1/jobs?{query}")).await.json();
        listed["data"].as_array().unwrap().len()
    };
    let listed = app.get("/v1/jobs?submitter=a%20b").await.json();
    assert_eq!(listed["data"][0]["id"], named["id"]);
    assert_eq!(found("submitter=a%20b").await, 1);
    assert_eq!(found("submitter=").await, 1, "those that name none");
    assert_eq!(found("submitter=unheard+of").await, 0);
    assert_eq!(found("submitter=%00").await, 0);
}

#[tokio::test]
async fn a_worker_is_listed_drained_and_let_go_again() {
    let app = TestApp::api().await;
    assert_eq!(app.get("/v1/workers").await.json()["data"], json!([]));
    announce(&app, "worker_1", 1 << 30).await;
    let worker = app.get("/v1/workers").await.json()["data"][0].clone();
    assert_eq!(worker["object"], "worker");
    assert_eq!(
        worker["devices"],
        json!([{"name": "cpu", "kind": "cpu", "memory_bytes": 1 << 30}])
    );
    assert_eq!(
        (&worker["status"], &worker["draining"], &worker["jobs"]),
        (&json!("idle"), &json!(false), &json!([]))
    );
    for _ in 0..2 {
        let drained = post(&app, "/v1/workers/worker_1/drain").await;
        assert_eq!(drained["status"], "draining");
    }
    let job = accepted(&app, &json!({})).await;
    assert_eq!(job["status_reason"], "workers_draining");
    let undrained = post(&app, "/v1/workers/worker_1/undrain").await;
    assert_eq!(undrained["status"], "idle");
    for action in ["drain", "undrain"] {
        let path = format!("/v1/workers/nobody/{action}");
        let answer = app.send(app.request(reqwest::Method::POST, &path)).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND);
        assert_eq!(answer.json()["code"], "worker_not_found");
    }
    let answer = app
        .send(app.request(reqwest::Method::POST, "/v1/workers/%00/drain"))
        .await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn the_queue_tells_what_waits_and_can_be_paused() {
    let app = TestApp::api().await;
    let empty = app.get("/v1/queue").await.json();
    let expected = json!({
        "object": "queue", "paused": false, "changed_at": null, "ready": 0, "delayed": 0, "running": 0,
        "oldest_age_seconds": null, "submitters": [], "waiting": [],
    });
    assert_eq!(empty, expected);
    accepted(&app, &json!({"submitter": "a"})).await;
    accepted(&app, &json!({"submitter": "a"})).await;
    accepted(&app, &json!({"run_after": "2999-01-01T00:00:00Z"})).await;
    let full = app.get("/v1/queue").await.json();
    assert_eq!((&full["ready"], &full["delayed"]), (&json!(2), &json!(1)));
    assert!(full["oldest_age_seconds"].as_f64().unwrap() >= 0.0);
    let submitters = json!([
        {"submitter": "a", "queued": 2, "running": 0}, {"submitter": "", "queued": 1, "running": 0},
    ]);
    assert_eq!(full["submitters"], submitters);
    let waiting = json!([
        {"reason": "no_worker", "detail": null, "jobs": 2}, {"reason": "scheduled", "detail": null, "jobs": 1},
    ]);
    assert_eq!(full["waiting"], waiting);

    let paused = post(&app, "/v1/queue/pause").await;
    let again = post(&app, "/v1/queue/pause").await;
    assert_eq!(
        (&paused["paused"], &again["changed_at"]),
        (&json!(true), &paused["changed_at"])
    );
    assert!(paused["changed_at"].is_string());
    assert_eq!(paused["waiting"][0]["reason"], "queue_paused");
    assert_eq!(post(&app, "/v1/queue/resume").await["paused"], false);
}
