//! What can be asked of a job over HTTP, and under which conditions.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use secateur::domain::ErrorCode;
use secateur::domain::job::attempt_end::AttemptEnd;
use secateur::domain::job::failure::AttemptFailure;
use secateur::domain::job::failure::JobError;
use secateur::domain::job::progress::{Overall, Phase};
use secateur::store::Report;
use serde_json::{Value, json};

use crate::support::test_app::{Answer, TestApp, publication};

async fn ask(app: &TestApp, id: &str, action: &str) -> Answer {
    app.post(&format!("/v1/jobs/{id}/{action}"), &Value::Null)
        .await
}

async fn delete(app: &TestApp, id: &str) -> Answer {
    app.send(app.request(Method::DELETE, &format!("/v1/jobs/{id}")))
        .await
}

fn status(answer: &Answer) -> (u16, Value) {
    (answer.status.as_u16(), answer.json()["status"].clone())
}

#[tokio::test]
async fn a_job_is_paused_resumed_and_tried_again() {
    let app = TestApp::api().await;
    let id = app.submit("m").await;
    for _ in 0..2 {
        assert_eq!(
            status(&ask(&app, &id, "pause").await),
            (200, json!("paused"))
        );
    }
    for _ in 0..2 {
        assert_eq!(
            status(&ask(&app, &id, "resume").await),
            (200, json!("queued"))
        );
    }
    let lease = app.claim().await;
    assert_eq!(
        status(&ask(&app, &id, "pause").await),
        (200, json!("pausing"))
    );
    let early = ask(&app, &id, "resume").await;
    assert_eq!(early.status, StatusCode::CONFLICT);
    assert_eq!(early.json()["code"], "invalid_transition");
    assert_eq!(
        early.json()["allowed"],
        json!(["queued", "running", "paused"])
    );
    app.finish(&lease, &AttemptEnd::Paused).await;
    ask(&app, &id, "cancel").await;
    let retried = ask(&app, &id, "retry").await;
    assert_eq!(status(&retried), (200, json!("queued")));
    let expected = [
        "queued",
        "paused",
        "continued",
        "started",
        "pausing",
        "paused",
        "cancelled",
        "retried",
    ];
    assert_eq!(app.events(&id).await, expected);
}

#[tokio::test]
async fn only_a_job_that_is_over_is_deleted_and_its_files_go_with_it() {
    let app = TestApp::with_worker().await;
    let id = app.submit("succeed").await;
    app.job_with_status(&id, "succeeded").await;
    let artifact = app.home().join(format!("artifacts/jobs/{id}"));
    assert!(artifact.try_exists().unwrap());
    for _ in 0..2 {
        assert_eq!(delete(&app, &id).await.status, StatusCode::NO_CONTENT);
    }
    assert!(!artifact.try_exists().unwrap());
    for path in ["", "/events", "/results", "/artifacts"] {
        let gone = app.get(&format!("/v1/jobs/{id}{path}")).await;
        assert_eq!(gone.status, StatusCode::NOT_FOUND, "{path}");
    }
    let running = app.submit("hang").await;
    app.job_with_status(&running, "running").await;
    let refused = delete(&app, &running).await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    assert_eq!(
        refused.json()["allowed"],
        json!(["succeeded", "failed", "cancelled"])
    );
    let unknown = delete(&app, "job_019abcde0123789a8bcdef0123456789").await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_cancelled_job_says_who_asked_and_why() {
    let app = TestApp::api().await;
    let id = app.submit("m").await;
    let path = format!("/v1/jobs/{id}/cancel");
    let wrong = app.post(&path, &json!({"why": "typo", "by": 7})).await;
    assert_eq!(wrong.status, StatusCode::BAD_REQUEST);
    assert_eq!(wrong.json()["errors"].as_array().unwrap().len(), 2);
    let body = json!({"by": "ana", "reason": "the wrong model"});
    let first = app.post(&path, &body).await.json();
    assert_eq!(
        (&first["cancel"]["by"], &first["cancel"]["reason"]),
        (&json!("ana"), &json!("the wrong model"))
    );
    assert!(first["cancel"]["requested_at"].is_string());
    // Without a body, and it is cancelled already.
    let again = app.send(app.request(Method::POST, &path)).await.json();
    assert_eq!(again["cancel"], first["cancel"]);
    let retried = ask(&app, &id, "retry").await.json();
    assert_eq!(retried["cancel"], Value::Null);
}

#[tokio::test]
async fn what_a_job_shows_as_its_request_is_a_request() {
    let app = TestApp::api().await;
    let document: Value = secateur::http::document();
    for (body, schema) in [
        (
            json!({"model": "a", "sparsity": 0.5, "priority": 3, "resources": {"device": "cpu"}}),
            "PruneBody",
        ),
        (
            json!({"type": "evaluate", "model": "a", "evaluation": {"perplexity": ["wikitext2"], "windows": 4}, "run_after": "2100-01-01T00:00:00Z"}),
            "EvaluateBody",
        ),
    ] {
        let job = app.post("/v1/jobs", &body).await.json();
        let mut clone = job.clone();
        let fields = &document["components"]["schemas"][schema]["properties"];
        let is_field = |name: &String| fields.get(name).is_some();
        clone
            .as_object_mut()
            .unwrap()
            .retain(|name, _| is_field(name));
        let second = app.post("/v1/jobs", &clone).await;
        assert_eq!(second.status, StatusCode::ACCEPTED, "{second:?}");
        let mut second = second.json();
        for name in fields.as_object().unwrap().keys() {
            assert_eq!(second[name].take(), job[name], "{name}");
        }
    }
}

#[tokio::test]
async fn what_is_asked_of_another_version_is_not_done() {
    let app = TestApp::api().await;
    let id = app.submit("m").await;
    let ask = async |tag: &str| {
        let request = app.request(Method::POST, &format!("/v1/jobs/{id}/cancel"));
        app.send(request.header("if-match", tag)).await
    };
    let tag = app
        .get(&format!("/v1/jobs/{id}"))
        .await
        .header("etag")
        .to_owned();
    let weak = format!("W/{tag}");
    for wrong in ["\"99-1\"", "\"1\"", "\"one\"", "1", &weak] {
        let answer = ask(wrong).await;
        assert_eq!(answer.status, StatusCode::PRECONDITION_FAILED, "{wrong}");
        assert_eq!(answer.json()["code"], "version_mismatch");
    }
    let several = ask("\"1\", \"2\"").await;
    assert_eq!(several.status, StatusCode::BAD_REQUEST);
    assert_eq!(
        app.get(&format!("/v1/jobs/{id}")).await.json()["status"],
        "queued"
    );
    // Progress is nothing that a client acts on.
    let lease = app.claim().await;
    let tag = app
        .get(&format!("/v1/jobs/{id}"))
        .await
        .header("etag")
        .to_owned();
    let report = Report::Phase(Phase::Resolving, Overall::default());
    app.store().await.report(&lease, &report).await.unwrap();
    let moved = app.get(&format!("/v1/jobs/{id}")).await;
    assert_eq!(moved.json()["phase"], "resolving");
    assert_eq!(status(&ask(&tag).await), (200, json!("cancelling")));
    assert_eq!(status(&ask("*").await), (200, json!("cancelling")));
}

#[tokio::test]
async fn a_job_fails_at_its_deadline_whether_it_waits_or_runs() {
    let app = TestApp::with_worker().await;
    let submit = async |model: &str| {
        let model = json!({"source": "local", "id": model});
        let body = json!({"model": model, "sparsity": 0.5, "deadline_seconds": 1});
        let answer = app.post("/v1/jobs", &body).await;
        assert_eq!(answer.json()["deadline_seconds"], 1);
        answer.json()["id"].as_str().unwrap().to_owned()
    };
    let running = submit("hang").await;
    app.job_with_status(&running, "running").await;
    let waiting = submit("succeed").await;
    ask(&app, &waiting, "pause").await;
    for (id, phase) in [(running, json!("pruning")), (waiting, Value::Null)] {
        let failed = app.job_with_status(&id, "failed").await;
        assert_eq!(failed["error"]["code"], "deadline_exceeded");
        assert_eq!(failed["error"]["retryable"], false);
        assert_eq!(failed["error"]["phase"], phase);
    }
}

#[tokio::test]
async fn a_deadline_has_limits() {
    let app = TestApp::api().await;
    for wrong in [json!(0), json!(2_592_001), json!("60"), json!(1.5)] {
        let body = json!({"model": "demo", "sparsity": 0.5, "deadline_seconds": wrong});
        let answer = app.post("/v1/jobs", &body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{wrong}");
        assert_eq!(answer.json()["errors"][0]["pointer"], "/deadline_seconds");
    }
}

#[tokio::test]
async fn a_failed_job_is_tried_again_with_all_its_attempts() {
    let app = TestApp::api().await;
    let id = app.submit("m").await;
    let lease = app.claim().await;
    let code = ErrorCode::NonFinite;
    let failure = AttemptFailure {
        code,
        message: "as asked".to_owned(),
        phase: None,
        retryable: code.retryable(),
    };
    let error = JobError {
        failure,
        attempt: 1,
    };
    let failed = AttemptEnd::Failed {
        error,
        crashed: false,
    };
    app.finish(&lease, &failed).await;
    let retried = ask(&app, &id, "retry").await.json();
    assert_eq!(
        (&retried["status"], &retried["error"]),
        (&json!("queued"), &Value::Null)
    );
    assert_eq!(
        (&retried["failed_attempts"], &retried["attempt"]),
        (&json!(0), &json!(1))
    );
    let lease = app.claim().await;
    app.finish(&lease, &AttemptEnd::Succeeded(Box::new(publication(2))))
        .await;
    let too_late = ask(&app, &id, "retry").await;
    assert_eq!(too_late.status, StatusCode::CONFLICT);
}

/// A child that is at no checkpoint is ended at once; one that prunes is asked, see `faults/kill.rs`.
#[tokio::test]
async fn a_running_job_pauses_and_goes_on() {
    let app = TestApp::with_worker().await;
    let id = app.submit("pause").await;
    app.job_when(&id, |job| job["phase"] == "pruning").await;
    assert_eq!(
        status(&ask(&app, &id, "pause").await),
        (200, json!("pausing"))
    );
    let paused = app.job_with_status(&id, "paused").await;
    assert_eq!(paused["attempts"][0]["outcome"], "paused");
    assert_eq!(paused["worker_id"], Value::Null);
    assert!(
        app.scratch(&id).try_exists().unwrap(),
        "kept for the next attempt"
    );
    ask(&app, &id, "resume").await;
    let done = app.job_with_status(&id, "succeeded").await;
    assert_eq!(
        (&done["attempt"], &done["failed_attempts"]),
        (&json!(2), &json!(0))
    );

    let id = app.submit("resolve").await;
    app.job_when(&id, |job| job["phase"] == "resolving").await;
    ask(&app, &id, "pause").await;
    app.job_with_status(&id, "paused").await;
    ask(&app, &id, "cancel").await;
    let swept = tokio::time::timeout(Duration::from_mins(1), async {
        while app.scratch(&id).try_exists().unwrap() {
            tokio::task::yield_now().await;
        }
    });
    swept.await.unwrap();
}
