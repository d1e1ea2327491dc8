//! The service with its artifacts in a bucket.

use std::time::Duration;

use hyper::StatusCode as Status;
use reqwest::redirect::Policy;
use reqwest::{Method, StatusCode};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::support::servers::s3_server::{Fault, S3Server, SECRET};
use crate::support::test_app::{Answer, TestApp};

const SLOW_DOWN: Fault = Fault::Status(Status::SERVICE_UNAVAILABLE, "SlowDown");
const DENIED: Fault = Fault::Status(Status::FORBIDDEN, "AccessDenied");

/// A server whose job has succeeded, and the path of its weights.
async fn finished(server: &S3Server, redirect: bool) -> (TestApp, String) {
    let app = TestApp::with_bucket(server, |config| {
        config.storage.bucket.redirect = redirect;
    })
    .await;
    let id = app.submit("succeed").await;
    app.job_with_status(&id, "succeeded").await;
    (app, format!("/v1/jobs/{id}/artifacts/model.safetensors"))
}

/// An answer that is not followed.
async fn first_answer(app: &TestApp, path: &str, headers: &[(&str, &str)]) -> Answer {
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(Policy::none())
        .build()
        .unwrap();
    let mut request = client.get(format!("http://{}{path}", app.address()));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    app.send(request).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_is_sent_to_the_bucket_where_it_has_the_digest_of_the_manifest() {
    let server = S3Server::start();
    let (app, path) = finished(&server, true).await;
    let list = app.get(path.rsplit_once('/').unwrap().0).await.json();
    let files = list["data"].as_array().unwrap();
    assert_eq!(files.len(), 2, "{list}");
    for file in files {
        let path = format!(
            "{}/{}",
            path.rsplit_once('/').unwrap().0,
            file["name"].as_str().unwrap()
        );
        let answer = app.get(&path).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        assert_eq!(
            hex::encode(Sha256::digest(&answer.body)),
            file["sha256"],
            "{path}"
        );
    }

    let answer = first_answer(&app, &path, &[]).await;
    assert_eq!(answer.status, StatusCode::TEMPORARY_REDIRECT);
    assert_eq!(answer.header("cache-control"), "no-store");
    let url = answer.header("location");
    assert!(url.starts_with(&server.endpoint()), "{url}");
    assert!(url.contains("X-Amz-Expires=300&"), "{url}");
    assert!(!url.contains(SECRET), "{url}");
    // The URL is for reading alone.
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let overwritten = client.put(url).body("x").send().await.unwrap();
    assert_eq!(overwritten.status(), StatusCode::FORBIDDEN);
    assert_eq!(app.get(&path).await.body, b"0123456789");
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_tags_and_heads_are_answered_as_without_a_bucket() {
    let server = S3Server::start();
    let (app, path) = finished(&server, true).await;
    let head = app.send(app.request(Method::HEAD, &path)).await;
    assert_eq!(head.status, StatusCode::OK);
    assert_eq!(head.header("content-length"), "10");
    let tag = head.header("etag").to_owned();

    let unchanged = first_answer(&app, &path, &[("if-none-match", &tag)]).await;
    assert_eq!(unchanged.status, StatusCode::NOT_MODIFIED);
    let part = app
        .send(app.request(Method::GET, &path).header("range", "bytes=2-4"))
        .await;
    assert_eq!(
        (part.status, &part.body[..]),
        (StatusCode::PARTIAL_CONTENT, &b"234"[..])
    );
    let outside = first_answer(&app, &path, &[("range", "bytes=10-")]).await;
    assert_eq!(outside.status, StatusCode::RANGE_NOT_SATISFIABLE);
    // The bucket does not know our tag, so this is answered here.
    let rest = [("range", "bytes=7-"), ("if-range", tag.as_str())];
    let rest = first_answer(&app, &path, &rest).await;
    assert_eq!(
        (rest.status, &rest.body[..]),
        (StatusCode::PARTIAL_CONTENT, &b"789"[..])
    );
    assert_eq!(rest.header("etag"), tag);
    let stale = [("range", "bytes=7-"), ("if-range", "\"other\"")];
    let stale = first_answer(&app, &path, &stale).await;
    assert_eq!(
        (stale.status, &stale.body[..]),
        (StatusCode::OK, &b"0123456789"[..])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn downloads_pass_through_the_server_where_the_bucket_is_out_of_reach() {
    let server = S3Server::start();
    let (app, path) = finished(&server, false).await;
    let answer = first_answer(&app, &path, &[]).await;
    assert_eq!(
        (answer.status, &answer.body[..]),
        (StatusCode::OK, &b"0123456789"[..])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_artifact_that_cannot_be_stored_is_tried_again() {
    let server = S3Server::start();
    server.fail(Method::PUT, "secateur.json", DENIED, 1);
    let app = TestApp::with_bucket(&server, |_| {}).await;
    let id = app.submit("succeed").await;
    let job = app.job_with_status(&id, "succeeded").await;
    assert_eq!(job["attempt"], 2);
    let error = &job["attempts"][0]["error"];
    assert_eq!(
        (&error["code"], &error["phase"]),
        (&json!("unavailable"), &json!("publishing")),
        "{job}"
    );
    // What the first attempt had stored already is collected.
    let attempts = |objects: Vec<String>| {
        objects
            .iter()
            .filter(|key| key.contains("/attempts/1/"))
            .count()
    };
    while attempts(server.objects()) > 0 {
        tokio::task::yield_now().await;
    }
    assert!(
        server
            .objects()
            .iter()
            .any(|key| key.contains("/attempts/2/"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finished_artifact_waits_for_a_bucket_that_is_away() {
    let server = S3Server::start();
    // More than the client repeats of a request, twice.
    let away = Fault::Status(Status::SERVICE_UNAVAILABLE, "ServiceUnavailable");
    server.fail(Method::PUT, "secateur.json", away, 20);
    let app = TestApp::with_bucket(&server, |_| {}).await;
    let id = app.submit("succeed").await;
    let job = app.job_with_status(&id, "succeeded").await;
    assert_eq!(job["attempt"], 1, "{job}");
    assert_eq!(server.unmet(), 0);
    let path = format!("/v1/jobs/{id}/artifacts/model.safetensors");
    assert_eq!(app.get(&path).await.body, b"0123456789");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_takes_nothing_fails_the_job_with_a_code_and_no_secrets() {
    let server = S3Server::start();
    server.fail(Method::PUT, "/dense/", DENIED, 1000);
    let app = TestApp::with_bucket(&server, |_| {}).await;
    let id = app.submit("succeed").await;
    let job = app.job_with_status(&id, "failed").await;
    assert_eq!(
        (&job["error"]["code"], &job["error"]["retryable"]),
        (&json!("unavailable"), &json!(true)),
        "{job}"
    );
    let told = job.to_string();
    assert!(
        !told.contains("AKIA") && !told.contains("127.0.0.1"),
        "{told}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_away_is_503_and_named_by_the_readiness() {
    let server = S3Server::start();
    let (app, path) = finished(&server, true).await;
    let is_ready = async || {
        let answer = app.get("/readyz").await;
        let checks = answer.json()["checks"].as_array().unwrap().clone();
        let mut checks = checks.into_iter();
        let check = checks.find(|check| check["name"] == "artifacts");
        (answer.status, check.unwrap())
    };
    let check = |ok: bool| json!({"name": "artifacts", "ok": ok});
    assert_eq!(is_ready().await, (StatusCode::OK, check(true)));
    server.fail(Method::HEAD, "", DENIED, 1000);
    server.fail(Method::GET, "", DENIED, 1000);
    let answer = app.get(&path).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{answer:?}");
    assert_eq!(answer.json()["code"], "unavailable");
    assert!(!answer.header("retry-after").is_empty());
    assert_eq!(
        is_ready().await,
        (StatusCode::SERVICE_UNAVAILABLE, check(false))
    );
    server.heal();
    assert_eq!(app.get(&path).await.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn leftovers_in_the_bucket_are_collected_and_files_of_unknown_jobs_kept() {
    let server = S3Server::start();
    let (app, path) = finished(&server, true).await;
    let id = path.split('/').nth(3).unwrap();
    let put = |key: String| {
        let file = server.directory().join(key);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, b"x").unwrap();
    };
    let unknown = "job_019abcde0123789a8bcdef0123456789";
    put(format!("jobs/{unknown}/attempts/1/dense/model.safetensors"));
    put(format!("jobs/{id}/attempts/7/dense/model.safetensors"));
    let is_done = |objects: &[String]| {
        !objects.iter().any(|key| key.contains("/attempts/7/"))
            && objects.contains(&format!("jobs/{unknown}/unknown-since"))
    };
    while !is_done(&server.objects()) {
        tokio::task::yield_now().await;
    }
    let objects = server.objects();
    assert!(objects.contains(&format!(
        "jobs/{unknown}/attempts/1/dense/model.safetensors"
    )));
    assert_eq!(app.get(&path).await.body, b"0123456789");
}

/// A request that fails is repeated for half a minute and longer.
#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_away_keeps_no_worker_from_stopping() {
    let server = S3Server::start();
    let app = TestApp::with_bucket(&server, |_| {}).await;
    server.fail(Method::GET, "", SLOW_DOWN, 1000);
    while server.unmet() == 1000 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let stopped = tokio::time::timeout(Duration::from_secs(20), app.stop());
    assert!(stopped.await.is_ok(), "the sweep goes on");
}
