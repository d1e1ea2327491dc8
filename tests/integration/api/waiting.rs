//! `Prefer: wait`: answers that are held back until they are worth it.

use reqwest::{Method, StatusCode};
use secateur::domain::job::attempt_end::AttemptEnd;
use secateur::domain::job::progress::{Overall, Step};
use secateur::store::Report;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::test_app::{Answer, TestApp};

async fn get(app: &TestApp, id: &str, wait: &str, etag: Option<&str>) -> Answer {
    let request = app.request(Method::GET, &format!("/v1/jobs/{id}"));
    let request = request.header("Prefer", wait);
    app.send(match etag {
        Some(etag) => request.header("If-None-Match", etag),
        None => request,
    })
    .await
}

async fn submit(app: &TestApp, model: &str, wait: &str) -> Answer {
    let body = json!({"model": {"source": "local", "id": model}, "sparsity": 0.5});
    let request = app.request(Method::POST, "/v1/jobs").header("Prefer", wait);
    app.send(request.json(&body)).await
}

#[tokio::test]
async fn a_job_is_waited_for_until_it_is_over() {
    let app = TestApp::api().await;
    let id = app.submit("m").await;
    let cancel = async {
        let lease = app.claim().await;
        app.post(&format!("/v1/jobs/{id}/cancel"), &json!({})).await;
        app.finish(&lease, &AttemptEnd::Cancelled).await;
    };
    let (answer, ()) = tokio::join!(get(&app, &id, "wait=60", None), cancel);
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.header("preference-applied"), "wait=60");
    assert_eq!(answer.json()["status"], "cancelled");
    assert_eq!(answer.json()["attempts"][0]["outcome"], "cancelled");
}

#[tokio::test]
async fn whoever_names_a_version_waits_for_the_next_one() {
    let app = TestApp::api().await;
    let id = app.submit("m").await;
    let etag = app
        .get(&format!("/v1/jobs/{id}"))
        .await
        .header("etag")
        .to_owned();
    let (answer, _) = tokio::join!(get(&app, &id, "wait=60", Some(&etag)), app.claim());
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.json()["status"], "running");
    // A version that is not the current one is not waited for.
    let answer = get(&app, &id, "wait=60", Some(&etag)).await;
    assert_eq!(answer.json()["status"], "running");
}

#[tokio::test]
async fn progress_alone_is_no_other_version() {
    let app = TestApp::api().await;
    let id = app.submit("m").await;
    let path = format!("/v1/jobs/{id}");
    let lease = app.claim().await;
    let tag = async || app.get(&path).await.header("etag").to_owned();
    let before = tag().await;
    let step = Step::new("block 1".to_owned(), "tokens", 1, 2);
    let report = Report::Step(step, Overall::default());
    app.store().await.report(&lease, &report).await.unwrap();
    assert_ne!(tag().await, before, "the answer is another one");
    let cancel = async {
        app.post(&format!("{path}/cancel"), &json!({})).await;
    };
    let (answer, ()) = tokio::join!(get(&app, &id, "wait=60", Some(&before)), cancel);
    assert_eq!(answer.json()["status"], "cancelling");
}

#[tokio::test]
async fn what_does_not_happen_is_waited_for_as_long_as_was_asked() {
    let app = TestApp::api().await;
    let id = app.submit("m").await;
    let answer = get(&app, &id, "wait=1", None).await;
    assert_eq!(
        (answer.status, &answer.json()["status"]),
        (StatusCode::OK, &json!("queued"))
    );
    app.claim().await;
    let path = format!("/v1/jobs/{id}");
    let etag = app.get(&path).await.header("etag").to_owned();
    let answer = get(&app, &id, "wait=1", Some(&etag)).await;
    assert_eq!(answer.status, StatusCode::NOT_MODIFIED);
    assert_eq!(answer.header("preference-applied"), "wait=1");
    let answer = submit(&app, "m", "wait=1").await;
    assert_eq!(answer.status, StatusCode::ACCEPTED);
    assert_eq!(answer.header("preference-applied"), "wait=1");
    let answer = get(&app, &id, "respond-async", None).await;
    assert!(!answer.headers.contains_key("preference-applied"));
}

#[tokio::test]
async fn a_submission_is_answered_when_the_job_is_over() {
    let app = TestApp::with_worker().await;
    let answer = submit(&app, "succeed", "wait=60").await;
    assert_eq!(answer.status, StatusCode::OK);
    let job: Value = answer.json();
    assert_eq!(job["status"], "succeeded");
    assert_eq!(answer.header("location"), job["links"]["self"]);
    assert_eq!(job["attempts"][0]["outcome"], "succeeded");
}

#[tokio::test]
async fn a_submission_that_is_not_over_in_time_is_answered_as_it_is_then() {
    let app = TestApp::with_worker().await;
    let answer = submit(&app, "hang", "wait=2").await;
    assert_eq!(answer.status, StatusCode::ACCEPTED);
    let job = answer.json();
    assert_eq!(
        (&job["status"], &job["attempt"]),
        (&json!("running"), &json!(1))
    );
}

#[tokio::test]
async fn a_server_that_is_stopped_answers_those_who_wait() {
    let app = TestApp::api().await;
    let id = app.submit("m").await;
    let connect = async |text: String| {
        let mut stream = TcpStream::connect(app.address()).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        stream
    };
    let mut waiting = connect(format!(
        "GET /v1/jobs/{id} HTTP/1.1\r\nHost: localhost\r\nPrefer: wait=60\r\n\r\n"
    ))
    .await;
    // Connections are taken in turn: when this one is answered, the server waits for the job.
    let mut other = connect("GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned()).await;
    other.read_exact(&mut [0; 12]).await.unwrap();
    app.stop().await;
    let mut answer = String::new();
    waiting.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("\"status\":\"queued\""), "{answer}");
}
