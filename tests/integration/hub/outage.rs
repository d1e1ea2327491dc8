//! The hub, or the way to it, is away for a while.

use secateur::domain::ErrorCode;
use secateur::domain::attempt::Outage;
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
    let away = HubOptions {
        endpoint: Some(NOWHERE.to_owned()),
        ..online.clone()
    };
    let error = fetch(&away).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::HubUnavailable);
    assert_eq!(error.outage(), Some(Outage::Hub));
    fetch(&online).await.unwrap();
    assert_eq!(fetch(&away).await.unwrap(), COMMIT);

    let snapshot = format!("models--org--tiny/snapshots/{COMMIT}/{WEIGHTS}");
    std::fs::remove_file(cache.path().join(snapshot)).unwrap();
    let error = fetch(&away).await.unwrap_err();
    assert_eq!(error.outage(), Some(Outage::Hub), "{error}");
}

#[tokio::test]
async fn what_the_hub_refuses_is_no_outage() {
    let (hub, cache) = (MockHub::with_model().await, tempfile::tempdir().unwrap());
    hub.require_token("another");
    let error = fetch(&options(&hub, &cache)).await.unwrap_err();
    assert_eq!(error.outage(), None, "{error}");
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
