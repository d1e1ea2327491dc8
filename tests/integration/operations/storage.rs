//! What jobs take of the disks.

use std::sync::Arc;
use std::time::Duration;

use secateur::clock::SystemClock;
use secateur::config::ServerConfig;
use serde_json::{Value, json};

use crate::support::test_app::{TestApp, new_home};

/// The only worker, as soon as it is as wanted.
async fn worker_when(app: &TestApp, wanted: impl Fn(&Value) -> bool) -> Value {
    let looked = async {
        loop {
            let storage = app.get("/v1/storage").await.json();
            let worker = &storage["workers"][0];
            if wanted(worker) {
                return storage;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), looked)
        .await
        .unwrap()
}

#[tokio::test]
async fn bytes_in_use_are_told_by_kind() {
    let home = new_home();
    let cached = home.path().join("hub-cache/models--org--name/blobs");
    std::fs::create_dir_all(&cached).unwrap();
    std::fs::write(cached.join("blob"), [0; 1000]).unwrap();
    std::os::unix::fs::symlink(cached.join("blob"), cached.join("link")).unwrap();
    let scores = home.path().join("scores");
    std::fs::create_dir_all(&scores).unwrap();
    std::fs::write(scores.join("score"), [0; 20]).unwrap();
    let app = TestApp::start(home, Arc::new(SystemClock), |_| {}).await;
    let storage = worker_when(&app, |worker| worker["used_bytes"].is_object()).await;
    assert_eq!(storage["object"], "storage");
    assert_eq!(storage["artifact_bytes"], 0);
    let worker = &storage["workers"][0];
    let used = json!({"scratch": 0, "scores": 20, "hub_cache": 1000});
    assert_eq!(worker["used_bytes"], used, "a link takes nothing");
    assert!(worker["free_disk_bytes"].is_u64());
    let listed = app.get("/v1/workers").await.json()["data"][0].clone();
    assert_eq!(listed["used_bytes"], used);
    let metrics = String::from_utf8(app.get("/metrics").await.body).unwrap();
    let series = "secateur_store_used_bytes{store=\"scores\"}";
    assert!(metrics.contains(series), "{metrics}");

    let id = app.submit("succeed").await;
    let job = app.job_with_status(&id, "succeeded").await;
    assert_eq!(job["status"], "succeeded");
    let storage = app.get("/v1/storage").await.json();
    assert!(storage["artifact_bytes"].as_u64() >= Some(10), "{storage}");
}

#[tokio::test]
async fn offline_the_limit_of_the_cache_removes_nothing() {
    let home = new_home();
    let model = home.path().join("hub-cache/models--org--name");
    let snapshot = model.join("snapshots/0123456789abcdef0123456789abcdef01234567");
    for dir in [&snapshot, &model.join("blobs")] {
        std::fs::create_dir_all(dir).unwrap();
    }
    std::fs::write(model.join("blobs/blob"), [0; 1000]).unwrap();
    let link = snapshot.join("config.json");
    std::os::unix::fs::symlink("../../blobs/blob", &link).unwrap();
    let limited = |config: &mut ServerConfig| config.worker.hub_cache_bytes = Some(0);
    let app = TestApp::start(home, Arc::new(SystemClock), limited).await;
    // It measures after it has removed.
    let storage = worker_when(&app, |worker| worker["used_bytes"].is_object()).await;
    let used = &storage["workers"][0]["used_bytes"];
    assert_eq!(used["hub_cache"], 1000, "{storage}");
    assert!(link.is_file());
}
