//! The hub, or the way to it, is away for a while.

use secateur::domain::ErrorCode;
use secateur::pipeline::hub::{HubModel, HubOptions};
use serde_json::json;

use crate::hub::models::{WEIGHTS, options};
use crate::hub::to_artifact::hub_with_bundled_model;
use crate::support::database::Database;
use crate::support::processes::Site;
use crate::support::servers::mock_hub::{COMMIT, Fault, MODEL, MockHub};

const CONFIG: &str = "config.json";

/// Nobody listens there.
const NOWHERE: &str = "http://127.0.0.1:9";

async fn fetch(options: &HubOptions) -> Result<String, secateur::pipeline::hub::HubError> {
    let model = HubModel::resolve(MODEL, "main", options).await?;
    Ok(model.fetch(&mut |_| ()).await?.commit)
}

#[tokio::test]
async fn a_model_of_the_cache_is_used_while_the_hub_is_away() {
    let (hub, cache) = (MockHub::with_model().await, tempfile::tempdir().unwrap());
    let online = options(&hub, &cache);
    // One after which the client library gives up, and that of the program, by which nobody waits for the library.
    let delays = [online.retry_delay, HubOptions::default().retry_delay];
    let away = delays.map(|retry_delay| HubOptions {
        endpoint: Some(NOWHERE.to_owned()),
        retry_delay,
        ..online.clone()
    });
    for away in &away {
        let error = fetch(away).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::HubUnavailable);
        assert!(error.is_outage(), "{error}");
    }
    fetch(&online).await.unwrap();
    for away in &away {
        assert_eq!(fetch(away).await.unwrap(), COMMIT);
    }

    let snapshot = format!("models--org--tiny/snapshots/{COMMIT}/{WEIGHTS}");
    std::fs::remove_file(cache.path().join(snapshot)).unwrap();
    for away in &away {
        let error = fetch(away).await.unwrap_err();
        assert!(error.is_outage(), "{error}");
    }
}

#[tokio::test]
async fn a_model_that_lacks_any_of_its_files_waits_for_the_hub() {
    const TOKENIZER: &str = "tokenizer_config.json";
    let (hub, cache) = (MockHub::with_model().await, tempfile::tempdir().unwrap());
    hub.add(TOKENIZER, b"{}");
    let online = options(&hub, &cache);
    let away = HubOptions {
        endpoint: Some(NOWHERE.to_owned()),
        ..online.clone()
    };
    fetch(&online).await.unwrap();
    fetch(&away).await.unwrap();
    let snapshot = format!("models--org--tiny/snapshots/{COMMIT}/{TOKENIZER}");
    std::fs::remove_file(cache.path().join(snapshot)).unwrap();
    assert!(fetch(&away).await.unwrap_err().is_outage());
    fetch(&online).await.unwrap();
    fetch(&away).await.unwrap();
    // As another tool leaves it, which may not have fetched everything.
    std::fs::remove_dir_all(cache.path().join(".locks")).unwrap();
    assert!(fetch(&away).await.unwrap_err().is_outage());
}

#[tokio::test]
async fn what_the_hub_refuses_is_no_outage() {
    let (hub, cache) = (MockHub::with_model().await, tempfile::tempdir().unwrap());
    hub.require_token("another");
    let error = fetch(&options(&hub, &cache)).await.unwrap_err();
    assert!(!error.is_outage(), "{error}");
}

#[tokio::test]
async fn a_server_that_is_no_hub_is_no_outage() {
    let pages = axum::Router::new().fallback(async || "<html>Please sign in</html>");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async { axum::serve(listener, pages).await.unwrap() });
    let (hub, cache) = (MockHub::start().await, tempfile::tempdir().unwrap());
    let options = HubOptions {
        endpoint: Some(endpoint),
        ..options(&hub, &cache)
    };
    let error = fetch(&options).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::HubUnavailable);
    assert!(!error.is_outage(), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_waits_for_the_hub_without_spending_an_attempt_and_keeps_its_commit() {
    let hub = hub_with_bundled_model().await;
    hub.fail_always(CONFIG, Fault::Cut);
    // It reaches the attempt, though not by its environment.
    hub.require_token("hf_ours");
    let endpoint = hub.endpoint();
    let work = tokio::task::spawn_blocking(move || {
        let (dir, database) = (tempfile::tempdir().unwrap(), Database::sqlite());
        let site = Site::new(dir.path(), &database)
            .with("HF_ENDPOINT", endpoint)
            .with("HF_TOKEN", "hf_ours")
            .with("HF_HOME", dir.path().join("cache"));
        let server = site.server();
        let id = server.submit(&json!({
            "model": {"source": "hub", "id": MODEL, "revision": "main"}, "sparsity": 0.5,
            "calibration": {"dataset": "demo", "n_samples": 2, "seq_len": 32},
            "evaluation": {"perplexity": ["demo"], "seq_len": 32, "windows": 1},
        }));
        let waiting = server.job_when(&id, |job| {
            job["status"] == "queued" && job["attempt"].as_u64() >= Some(2)
        });
        assert_eq!(waiting["error"]["code"], "hub_unavailable", "{waiting}");
        assert_eq!(waiting["failed_attempts"], 0, "{waiting}");
        let first = &waiting["attempts"][0];
        assert!(
            first["finished_at"].is_string() && first["log_tail"].is_null(),
            "{waiting}"
        );
        let pinned = json!([{"id": MODEL, "revision": "main", "commit": COMMIT}]);
        assert_eq!(waiting["commits"], pinned, "{waiting}");
        hub.fail_first(CONFIG, &[]);
        let done = server.succeeded(&id);
        assert_eq!(done["commits"], pinned);
        assert_eq!(
            hub.count("GET revision/main"),
            1,
            "pinned by the first attempt"
        );
    });
    work.await.unwrap();
}
