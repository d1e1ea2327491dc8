//! The pool with a child that does as it is told.

use std::sync::Arc;
use std::time::Duration;

use reqwest::StatusCode;
use secateur::app;
use secateur::clock::SystemClock;
use serde_json::{Value, json};

use crate::support::database::Database;
use crate::support::test_app::{TestApp, config, new_home};

fn exists(path: &std::path::Path) -> bool {
    path.try_exists().unwrap()
}

#[tokio::test]
async fn a_job_runs_to_its_end_by_itself() {
    let app = TestApp::with_worker().await;
    let id = app.submit("succeed").await;
    let job = app.job_with_status(&id, "succeeded").await;
    assert_eq!(
        (&job["attempt"], &job["failed_attempts"], &job["error"]),
        (&json!(1), &json!(0), &Value::Null)
    );
    assert_eq!(job["attempts"][0]["outcome"], "succeeded");
    assert_eq!(job["attempts"][0]["device"], "cpu");
    assert!(job["finished_at"].is_string() && job["worker_id"].is_null());
    assert_eq!(
        app.events(&id).await,
        ["queued", "started", "phase", "succeeded"]
    );
    app.stop().await;
}

#[tokio::test]
async fn an_evaluation_publishes_whatever_files_it_left() {
    let app = TestApp::with_worker().await;
    let model = json!({"source": "local", "id": "succeed"});
    let id = app.submit_evaluation(&model).await;
    app.job_with_status(&id, "succeeded").await;
    assert_eq!(
        app.events(&id).await,
        ["queued", "started", "phase", "succeeded"]
    );
    let files = app.get(&format!("/v1/jobs/{id}/artifacts")).await.json()["data"].clone();
    let names = files.as_array().unwrap().iter().map(|file| &file["name"]);
    assert_eq!(
        names.collect::<Vec<_>>(),
        ["evaluation.json", "samples.jsonl"]
    );
    let samples = app
        .get(&format!("/v1/jobs/{id}/artifacts/samples.jsonl"))
        .await;
    assert_eq!(samples.body, b"{\"task\":\"boolq\",\"doc_id\":0}\n");
    let digest = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(&samples.body));
    assert_eq!(files[1]["sha256"], digest);
    app.stop().await;
}

#[tokio::test]
async fn the_artifact_of_a_job_can_be_evaluated_by_another() {
    let app = TestApp::with_worker().await;
    let pruned = app.submit("succeed").await;
    app.job_with_status(&pruned, "succeeded").await;
    // A real artifact has a configuration; the stub's lacks one.
    let dense = format!("artifacts/jobs/{pruned}/attempts/1/dense");
    let config = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo/config.json");
    std::fs::copy(config, app.home().join(dense).join("config.json")).unwrap();
    let model = json!({"source": "job", "id": pruned});
    let id = app.submit_evaluation(&model).await;
    let job = app.job_with_status(&id, "succeeded").await;
    assert_eq!(job["model"], model);
    let weights = app
        .get(&format!("/v1/jobs/{pruned}/artifacts/model.safetensors"))
        .await;
    assert_eq!(weights.body, b"0123456789", "it is only read");
    app.stop().await;
}

#[tokio::test]
async fn an_evaluation_without_its_report_is_not_published() {
    let app = TestApp::with_worker().await;
    let model = json!({"source": "local", "id": "liar"});
    let id = app.submit_evaluation(&model).await;
    let job = app.job_with_status(&id, "failed").await;
    assert_eq!(
        (&job["error"]["code"], &job["error"]["phase"]),
        (&json!("io"), &json!("publishing"))
    );
    app.stop().await;
}

#[tokio::test]
async fn nothing_is_left_in_scratch_once_a_job_is_over() {
    let app = TestApp::with_worker().await;
    for (model, status) in [("succeed", "succeeded"), ("refuse", "failed")] {
        let id = app.submit(model).await;
        app.job_with_status(&id, status).await;
    }
    // The stop waits for the clearing up.
    let home = app.stop().await;
    assert_eq!(
        std::fs::read_dir(home.path().join("scratch"))
            .unwrap()
            .count(),
        0
    );
    assert_eq!(
        std::fs::read_dir(home.path().join("workers"))
            .unwrap()
            .count(),
        0
    );
}

#[tokio::test]
async fn a_permanent_failure_is_not_tried_again() {
    let app = TestApp::with_worker().await;
    let id = app.submit("refuse").await;
    let job = app.job_with_status(&id, "failed").await;
    let error = json!({
        "code": "model_not_found", "message": "as asked", "phase": "resolving", "retryable": false, "attempt": 1,
    });
    assert_eq!((&job["error"], &job["attempt"]), (&error, &json!(1)));
    assert_eq!(app.events(&id).await, ["queued", "started", "failed"]);
    app.stop().await;
}

#[tokio::test]
async fn a_failure_that_may_pass_is_tried_three_times() {
    let app = TestApp::with_worker().await;
    let id = app.submit("full").await;
    let job = app.job_with_status(&id, "failed").await;
    assert_eq!(
        (&job["error"]["code"], &job["attempt"]),
        (&json!("insufficient_disk"), &json!(3))
    );
    assert_eq!(
        (&job["failed_attempts"], &job["crash_count"]),
        (&json!(3), &json!(0))
    );
    let expected = [
        "queued", "started", "retrying", "started", "retrying", "started", "failed",
    ];
    assert_eq!(app.events(&id).await, expected);
    app.stop().await;
}

#[tokio::test]
async fn a_crash_is_named_counted_and_bounded() {
    let app = TestApp::with_worker().await;
    let id = app.submit("crash").await;
    let job = app.job_with_status(&id, "failed").await;
    assert_eq!(job["error"]["code"], "worker_crashed");
    assert_eq!(job["error"]["phase"], "calibrating");
    let message = job["error"]["message"].as_str().unwrap();
    assert!(message.contains("signal 9"), "{message}");
    assert_eq!(
        (
            &job["crash_count"],
            &job["attempts"].as_array().unwrap().len()
        ),
        (&json!(3), &3)
    );
    let last = &job["attempts"][2];
    assert_eq!(
        last["log_tail"], "about to fall over it",
        "no path of the server"
    );
    let workers = app.get("/v1/workers").await.json();
    assert_eq!(last["host"], workers["data"][0]["host"]);
    // The slot is free for the next one.
    let next = app.submit("succeed").await;
    app.job_with_status(&next, "succeeded").await;
    app.stop().await;
}

#[tokio::test]
async fn a_child_that_ends_without_a_word_has_crashed() {
    let app = TestApp::with_worker().await;
    let id = app.submit("silent").await;
    let job = app.job_with_status(&id, "failed").await;
    let message = job["error"]["message"].as_str().unwrap();
    assert!(message.contains("exit status 3"), "{message}");
    app.stop().await;
}

#[tokio::test]
async fn the_attempt_after_a_crash_finds_its_scratch_directory_again() {
    let app = TestApp::with_worker().await;
    let id = app.submit("crash-once").await;
    let job = app.job_with_status(&id, "succeeded").await;
    assert_eq!(
        (&job["attempt"], &job["crash_count"]),
        (&json!(2), &json!(1))
    );
    let expected = [
        "queued",
        "started",
        "retrying",
        "started",
        "resumed",
        "phase",
        "succeeded",
    ];
    assert_eq!(app.events(&id).await, expected);
    app.stop().await;
}

#[tokio::test]
async fn an_artifact_that_is_not_what_the_manifest_says_is_not_published() {
    let app = TestApp::with_worker().await;
    let id = app.submit("liar").await;
    let job = app.job_with_status(&id, "failed").await;
    assert_eq!(
        (&job["error"]["code"], &job["error"]["phase"]),
        (&json!("io"), &json!("publishing"))
    );
    assert_eq!(
        app.get(&format!("/v1/jobs/{id}/artifacts")).await.status,
        StatusCode::CONFLICT
    );
    app.stop().await;
}

#[tokio::test]
async fn a_report_on_another_type_of_job_is_not_published() {
    let app = TestApp::with_worker().await;
    let id = app.submit("confused").await;
    let job = app.job_with_status(&id, "failed").await;
    assert_eq!(job["error"]["code"], "internal");
    let message = job["error"]["message"].as_str().unwrap();
    assert!(message.contains("evaluate"), "{message}");
    app.stop().await;
}

#[tokio::test]
async fn cancelling_a_running_job_ends_every_process_of_it() {
    let app = TestApp::with_worker().await;
    let id = app.submit("hang").await;
    let running = app
        .job_when(&id, |job| job["progress"]["step"].is_object())
        .await;
    assert_eq!(
        (&running["status"], &running["phase"]),
        (&json!("running"), &json!("pruning"))
    );
    assert_eq!(running["progress"]["step"]["percent"], 50.0);
    let grandchild = std::fs::read_to_string(app.scratch(&id).join("grandchild")).unwrap();

    app.post(&format!("/v1/jobs/{id}/cancel"), &Value::Null)
        .await;
    let job = app.job_with_status(&id, "cancelled").await;
    assert_eq!(
        (&job["attempts"][0]["outcome"], &job["error"]),
        (&json!("cancelled"), &Value::Null)
    );
    assert_eq!(
        app.events(&id).await,
        ["queued", "started", "phase", "cancelling", "cancelled"]
    );
    let home = app.stop().await;
    assert!(!exists(&home.path().join("scratch").join(&id)));
    assert!(
        !is_running(&grandchild),
        "process {grandchild} is still there"
    );
}

#[tokio::test]
async fn a_worker_elsewhere_hears_of_a_cancellation_before_its_heartbeat() {
    let app = TestApp::api().await;
    let mut config = config(app.home());
    config.worker.heartbeat_seconds = Duration::from_hours(1);
    config.worker.lease_seconds = Duration::from_hours(2);
    let worker = app::start_worker(&config.storage, &config.worker, None);
    let worker = worker.await.unwrap();
    let id = app.submit("hang").await;
    // Nothing more to write down: only asking tells the worker.
    app.job_when(&id, |job| job["progress"]["step"].is_object())
        .await;
    app.post(&format!("/v1/jobs/{id}/cancel"), &Value::Null)
        .await;
    app.job_with_status(&id, "cancelled").await;
    worker.shutdown().await;
    app.stop().await;
}

#[tokio::test]
async fn whatever_a_child_logs_it_is_read_to_its_end() {
    let app = TestApp::with_worker().await;
    let id = app.submit("noisy").await;
    let job = app
        .job_when(&id, |job| job["finished_at"].is_string())
        .await;
    assert_eq!(
        (&job["status"], &job["attempt"]),
        (&json!("succeeded"), &json!(1))
    );
    app.stop().await;
}

#[tokio::test]
async fn a_child_is_listened_to_while_the_database_takes_nothing() {
    let database = Database::sqlite();
    let app = TestApp::start(new_home(), Arc::new(SystemClock), |config| {
        config.storage.database_url = Some(database.as_url());
    })
    .await;
    let id = app.submit("chatty").await;
    app.job_when(&id, |job| job["phase"] == "pruning").await;
    let said = app.scratch(&id).join("said");
    let listened = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        std::fs::write(app.scratch(&id).join("talk"), "").unwrap();
        while !exists(&said) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        locked = database.lock(Duration::from_secs(30)) => panic!("the child stood still, {locked:?}"),
        () = listened => {}
    }
    let job = app.job_with_status(&id, "succeeded").await;
    assert_eq!(job["attempt"], 1);
    assert_eq!(
        app.events(&id).await,
        ["queued", "started", "phase", "phase", "succeeded"]
    );
    app.stop().await;
}

/// Dead, or dead and not yet waited for by whoever adopted it.
fn is_running(pid: &str) -> bool {
    match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => !stat.contains(") Z"),
        Err(_) => false,
    }
}

#[tokio::test]
async fn a_stopped_server_gives_its_job_back_and_the_next_one_ends_it() {
    let app = TestApp::with_worker().await;
    let id = app.submit("hang-once").await;
    app.job_when(&id, |job| job["phase"] == "pruning").await;
    let home = app.stop().await;
    assert!(
        exists(&home.path().join("scratch").join(&id).join("tried")),
        "the checkpoint is kept"
    );

    let app = TestApp::at(home).await;
    let job = app.job_with_status(&id, "succeeded").await;
    assert_eq!(
        (&job["attempt"], &job["failed_attempts"]),
        (&json!(2), &json!(0))
    );
    let outcomes: Vec<_> = job["attempts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|a| a["outcome"].clone())
        .collect();
    assert_eq!(outcomes, ["released", "succeeded"]);
    app.stop().await;
}

#[tokio::test]
async fn a_job_may_save_what_it_has_done_before_the_server_stops() {
    let app = TestApp::start(new_home(), Arc::new(SystemClock), |config| {
        config.worker.heartbeat_seconds = Duration::from_mins(1);
    });
    let app = app.await;
    let id = app.submit("pause").await;
    app.job_when(&id, |job| job["phase"] == "pruning").await;
    let home = app.stop().await;
    let asked = home.path().join("scratch").join(&id).join("asked");
    assert!(exists(&asked), "it was ended without being asked to save");

    let app = TestApp::at(home).await;
    let job = app.job_with_status(&id, "succeeded").await;
    assert_eq!(job["attempts"][0]["outcome"], "released", "{job}");
    assert_eq!(job["failed_attempts"], 0);
    app.stop().await;
}
