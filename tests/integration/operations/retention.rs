//! How long finished jobs stay.

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use secateur::clock::ManualClock;
use serde_json::{Value, json};
use sqlx::ConnectOptions as _;
use sqlx::sqlite::SqliteConnectOptions;

use crate::support::test_app::TestApp;

const DAY: Duration = Duration::from_hours(24);

async fn succeeded(app: &TestApp) -> String {
    let id = app.submit("succeed").await;
    app.job_with_status(&id, "succeeded").await;
    id
}

/// `keep` or `unkeep`.
async fn ask(app: &TestApp, id: &str, action: &str) -> Value {
    let answer = app
        .post(&format!("/v1/jobs/{id}/{action}"), &json!({}))
        .await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    answer.json()
}

async fn retaining_for_30_days() -> (Arc<ManualClock>, TestApp) {
    let clock = Arc::new(ManualClock::new("2026-11-27T10:00:00Z".parse().unwrap()));
    let home = Arc::new(tempfile::tempdir().unwrap());
    let app = TestApp::start(home, Arc::<ManualClock>::clone(&clock), |config| {
        config.storage.retain_days = 30;
    });
    let app = app.await;
    (clock, app)
}

#[tokio::test]
async fn a_job_that_is_over_is_deleted_after_its_retention_unless_it_is_kept() {
    let (clock, app) = retaining_for_30_days().await;
    let (old, kept) = (succeeded(&app).await, succeeded(&app).await);
    let until = app.get(&format!("/v1/jobs/{old}")).await.json()["retain_until"].clone();
    assert_eq!(until, "2026-12-27T10:00:00Z");
    let job = ask(&app, &kept, "keep").await;
    assert_eq!(
        (&job["kept"], &job["retain_until"]),
        (&json!(true), &Value::Null)
    );
    clock.advance(29 * DAY);
    let young = succeeded(&app).await;
    clock.advance(2 * DAY);
    app.until_gone(&old).await;
    let directory = |id: &str| app.home().join("artifacts/jobs").join(id);
    app.until_removed(&directory(&old)).await;
    for id in [&kept, &young] {
        let request = app.request(Method::GET, &format!("/v1/jobs/{id}"));
        assert_eq!(app.send(request).await.status, StatusCode::OK);
        assert!(directory(id).try_exists().unwrap());
    }
    let job = ask(&app, &kept, "unkeep").await;
    assert_eq!(job["kept"], false);
    app.until_gone(&kept).await;
}

#[tokio::test]
async fn a_damaged_job_keeps_no_other_past_its_retention() {
    let clock = Arc::new(ManualClock::new("2026-11-27T10:00:00Z".parse().unwrap()));
    let home = Arc::new(tempfile::tempdir().unwrap());
    let app = TestApp::start(home, Arc::<ManualClock>::clone(&clock), |_| {}).await;
    let damaged = succeeded(&app).await;
    clock.advance(DAY);
    let next = succeeded(&app).await;
    let file = SqliteConnectOptions::new().filename(app.home().join("secateur.db"));
    let mut database = file.connect().await.unwrap();
    let damage = sqlx::query("update jobs set queued_at = $1 where id = $2");
    let damage = damage.bind(i64::MAX).bind(&damaged);
    damage.execute(&mut database).await.unwrap();
    clock.advance(91 * DAY);
    app.until_gone(&next).await;
}

#[tokio::test]
async fn a_hundred_damaged_jobs_keep_no_other_past_its_retention() {
    let clock = Arc::new(ManualClock::new("2026-11-27T10:00:00Z".parse().unwrap()));
    let home = Arc::new(tempfile::tempdir().unwrap());
    let app = TestApp::start(home, Arc::<ManualClock>::clone(&clock), |config| {
        config.listen.no_worker = true;
    });
    let app = app.await;
    let cancelled = async || {
        let id = app.submit("m").await;
        ask(&app, &id, "cancel").await;
        id
    };
    for _ in 0..100 {
        cancelled().await;
    }
    let file = SqliteConnectOptions::new().filename(app.home().join("secateur.db"));
    let mut database = file.connect().await.unwrap();
    let damage = sqlx::query("update jobs set queued_at = $1").bind(i64::MAX);
    damage.execute(&mut database).await.unwrap();
    clock.advance(DAY);
    let next = cancelled().await;
    clock.advance(91 * DAY);
    app.until_gone(&next).await;
}

#[tokio::test]
async fn what_a_paused_job_has_done_is_retained_as_long_as_one_that_is_over() {
    let (clock, app) = retaining_for_30_days().await;
    let old = succeeded(&app).await;
    clock.advance(2 * DAY);
    let id = app.submit("pause").await;
    app.job_when(&id, |job| job["phase"] == "pruning").await;
    ask(&app, &id, "pause").await;
    app.job_with_status(&id, "paused").await;
    clock.advance(29 * DAY);
    app.until_gone(&old).await;
    let scratch = app.scratch(&id);
    assert!(scratch.try_exists().unwrap());
    clock.advance(2 * DAY);
    app.until_removed(&scratch).await;
    assert_eq!(
        app.get(&format!("/v1/jobs/{id}")).await.json()["status"],
        "paused"
    );
    // It begins anew.
    ask(&app, &id, "resume").await;
    app.job_when(&id, |job| job["phase"] == "pruning" && job["attempt"] == 2)
        .await;
}
