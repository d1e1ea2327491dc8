//! `Idempotency-Key`: whatever is lost on the way, one submission makes one job.

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use secateur::clock::ManualClock;
use serde_json::{Value, json};

use crate::support::database::{Database, block_on};
use crate::support::processes::{Server, Site};
use crate::support::test_app::{Answer, TestApp};

const KEY: &str = "idempotency-key";
const REPLAYED: &str = "idempotency-replayed";

on_both_databases!(blocking:
    fifty_submissions_at_once_under_one_key_make_one_job,
    a_submission_repeated_after_the_server_was_killed_is_answered_as_before,
    an_answer_that_an_older_version_stored_is_given_again,
);

fn body() -> Value {
    json!({"model": "demo", "sparsity": 0.5})
}

/// Status, whether it was a repetition, and the bytes of the answer.
fn submit_to(server: &Server, path: &str) -> (u16, bool, String) {
    let request = server.request(Method::POST, path).header(KEY, "a-b_c.1");
    let response = request.json(&body()).send().unwrap();
    let is_repeated = response.headers().get(REPLAYED).is_some();
    (
        response.status().as_u16(),
        is_repeated,
        response.text().unwrap(),
    )
}

fn fifty_submissions_at_once_under_one_key_make_one_job(database: &Database) {
    let dir = tempfile::tempdir().unwrap();
    let server = Site::new(dir.path(), database).api();
    let (server, paths) = (&server, ["/v1/jobs", "/jobs"]);
    let answers: Vec<_> = std::thread::scope(|scope| {
        let asking: Vec<_> = (0..50)
            .map(|turn| scope.spawn(move || submit_to(server, paths[turn % 2])))
            .collect();
        asking.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let first = answers.iter().filter(|(_, is_repeated, _)| !is_repeated);
    assert_eq!(first.count(), 1);
    for (status, _, text) in &answers {
        assert_eq!((*status, text), (202, &answers[0].2));
    }
    let list = server.get("/v1/jobs");
    assert_eq!(list["data"].as_array().unwrap().len(), 1);
}

fn a_submission_repeated_after_the_server_was_killed_is_answered_as_before(database: &Database) {
    let dir = tempfile::tempdir().unwrap();
    let start = || Site::new(dir.path(), database).api();
    let server = start();
    let (status, is_repeated, text) = submit_to(&server, "/v1/jobs");
    assert_eq!((status, is_repeated), (202, false));
    server.process.kill();

    let server = start();
    assert_eq!(submit_to(&server, "/v1/jobs"), (202, true, text.clone()));
    let list = server.get("/v1/jobs");
    assert_eq!(list["counts"]["queued"], 1);
    let job: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(list["data"][0]["id"], job["id"]);
}

fn an_answer_that_an_older_version_stored_is_given_again(database: &Database) {
    let dir = tempfile::tempdir().unwrap();
    let start = || Site::new(dir.path(), database).api();
    let server = start();
    let (_, _, text) = submit_to(&server, "/v1/jobs");
    server.process.kill();
    let older = match database {
        Database::Sqlite(_) => {
            r#"update idempotency_keys set reply = json_object('status', 202, 'headers',
            json_object('location', '/v1/jobs/' || json_extract(reply, '$.job_id'), 'etag', '"1"'),
            'body', json_extract(reply, '$.body'))"#
        }
        Database::Postgres { .. } => {
            r#"update idempotency_keys set reply = json_build_object('status', 202, 'headers',
            json_build_object('location', '/v1/jobs/' || (reply::json ->> 'job_id'), 'etag', '"1"'),
            'body', reply::json ->> 'body')::text"#
        }
    };
    assert_eq!(block_on(database.execute(older)).unwrap(), 1);
    // It may run beside this one, as while a cluster is brought up to date.
    let server = start();
    assert_eq!(submit_to(&server, "/v1/jobs"), (202, true, text.clone()));
    server.process.kill();
    let migrated = "delete from secateur_migrations where version = 8";
    assert_eq!(block_on(database.execute(migrated)).unwrap(), 1);
    let server = start();
    assert_eq!(submit_to(&server, "/v1/jobs"), (202, true, text));
}

async fn submit(app: &TestApp, path: &str, key: &str, body: &Value) -> Answer {
    let request = app.request(Method::POST, path).header(KEY, key).json(body);
    app.send(request).await
}

#[tokio::test]
async fn a_repetition_is_the_same_answer_whatever_became_of_the_job() {
    let app = TestApp::api().await;
    let first = submit(&app, "/v1/jobs", "k", &body()).await;
    assert_eq!(first.status, StatusCode::ACCEPTED, "{first:?}");
    assert!(!first.headers.contains_key(REPLAYED));
    let path = first.header("location").to_owned();
    let cancelled = app.post(&format!("{path}/cancel"), &Value::Null).await;
    assert_eq!(cancelled.status, StatusCode::OK);

    // The same body, written in another way.
    let text = "{ \"sparsity\": 0.50, \"model\": \"demo\" }";
    let request = app.request(Method::POST, "/jobs").header(KEY, "k");
    let request = request.header("content-type", "application/json; charset=utf-8");
    let again = app.send(request.body(text)).await;
    assert_eq!(again.header(REPLAYED), "true");
    assert_eq!((again.status, &again.body), (first.status, &first.body));
    for name in ["location", "etag", "retry-after", "content-type"] {
        assert_eq!(again.header(name), first.header(name), "{name}");
    }
}

#[tokio::test]
async fn the_key_of_a_job_that_was_deleted_leads_nowhere() {
    let app = TestApp::api().await;
    let first = submit(&app, "/v1/jobs", "k", &body()).await;
    let path = first.header("location").to_owned();
    app.post(&format!("{path}/cancel"), &Value::Null).await;
    app.send(app.request(Method::DELETE, &path)).await;
    let again = submit(&app, "/v1/jobs", "k", &body()).await;
    assert_eq!(again.status, StatusCode::NOT_FOUND);
    assert_eq!(again.json()["code"], "job_not_found");
}

#[tokio::test]
async fn another_body_under_the_key_is_refused_until_a_day_has_passed() {
    let clock = Arc::new(ManualClock::new("2026-11-27T10:00:00Z".parse().unwrap()));
    let app = TestApp::api_at(Arc::<ManualClock>::clone(&clock)).await;
    let first = submit(&app, "/v1/jobs", "k", &body()).await;
    let other = json!({"model": "demo", "sparsity": 0.6});
    clock.advance(Duration::from_hours(24) - Duration::from_millis(1));
    let refused = submit(&app, "/v1/jobs", "k", &other).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(refused.json()["code"], "idempotency_key_reused");
    clock.advance(Duration::from_millis(1));
    let second = submit(&app, "/v1/jobs", "k", &other).await;
    assert_eq!(second.status, StatusCode::ACCEPTED);
    assert_ne!(second.json()["id"], first.json()["id"]);
}

#[tokio::test]
async fn a_refused_submission_leaves_its_key_free() {
    let app = TestApp::api().await;
    for (wrong, status) in [
        (
            json!({"model": "demo", "sparsity": 7}),
            StatusCode::BAD_REQUEST,
        ),
        (
            json!({"model": {"source": "local", "id": "absent"}, "sparsity": 0.5}),
            StatusCode::UNPROCESSABLE_ENTITY,
        ),
    ] {
        let refused = submit(&app, "/v1/jobs", "k", &wrong).await;
        assert_eq!(refused.status, status, "{refused:?}");
        assert_ne!(refused.json()["code"], "idempotency_key_reused");
    }
    let accepted = submit(&app, "/v1/jobs", "k", &body()).await;
    assert_eq!(accepted.status, StatusCode::ACCEPTED);
    assert!(!accepted.headers.contains_key(REPLAYED));
}

#[tokio::test]
async fn a_key_that_is_none_is_refused_and_named() {
    let app = TestApp::api().await;
    let long = "k".repeat(256);
    for key in ["", "a b", "schl\u{fc}ssel", &long] {
        let request = app.request(Method::POST, "/v1/jobs").json(&body());
        let refused = app.send(request.header(KEY, key.as_bytes())).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{key:?}");
        assert_eq!(refused.json()["errors"][0]["header"], KEY);
    }
    let request = app.request(Method::POST, "/v1/jobs").json(&body());
    let refused = app.send(request.header(KEY, "a").header(KEY, "b")).await;
    assert_eq!(refused.json()["errors"][0]["code"], "duplicate");
    let jobs = app.get("/v1/jobs").await.json();
    assert_eq!(jobs["data"], json!([]));
}

#[tokio::test]
async fn the_same_work_is_answered_with_the_job_that_does_it() {
    let app = TestApp::api().await;
    let first = app.post("/v1/jobs", &body()).await.json();
    let again = |more: Value| {
        let mut again = json!({"model": "demo", "sparsity": 0.5, "on_duplicate": "return"});
        for (field, value) in more.as_object().unwrap() {
            again[field] = value.clone();
        }
        again
    };
    // A default that is spelt out, and what is no part of the work.
    let same = again(json!({"method": "wanda", "name": "another", "priority": 7}));
    let answer = app.post("/v1/jobs", &same).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let path = first["links"]["self"].as_str().unwrap();
    assert_eq!(answer.header("content-location"), path);
    assert_eq!(answer.json()["id"], first["id"]);
    assert_eq!(answer.json()["name"], Value::Null);
    for other in [
        again(json!({"sparsity": 0.6})),
        again(json!({"calibration": {"dataset": "demo", "seed": 1}})),
        again(json!({"on_duplicate": "new"})),
    ] {
        let answer = app.post("/v1/jobs", &other).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
        assert_ne!(answer.json()["id"], first["id"]);
    }
    app.post(&format!("{path}/cancel"), &Value::Null).await;
    let newer = app.post("/v1/jobs", &same).await.json();
    assert_ne!(newer["id"], first["id"], "one that was cancelled is none");
    let wrong = app
        .post("/v1/jobs", &again(json!({"on_duplicate": "drop"})))
        .await;
    assert_eq!(wrong.json()["errors"][0]["pointer"], "/on_duplicate");
}
