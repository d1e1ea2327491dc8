//! What the hub says of a model before its job is accepted.

use std::path::Path;

use serde_json::{Value, json};

use crate::hub::models::WEIGHTS;
use crate::hub::to_artifact::hub_with_bundled_model;
use crate::support::database::Database;
use crate::support::processes::{Server, Site};
use crate::support::servers::mock_hub::{COMMIT, MODEL};

/// What is done with an API that asks this hub.
async fn with_api(endpoint: String, check: impl FnOnce(&Server, &Path) + Send + 'static) {
    with_patient_api(endpoint, "10", check).await;
}

async fn with_patient_api(
    endpoint: String,
    seconds: &'static str,
    check: impl FnOnce(&Server, &Path) + Send + 'static,
) {
    let work = tokio::task::spawn_blocking(move || {
        let (dir, database) = (tempfile::tempdir().unwrap(), Database::sqlite());
        let site = Site::new(dir.path(), &database)
            .with("SECATEUR_HUB_CHECK_SECONDS", seconds)
            .with("HF_ENDPOINT", endpoint)
            .with("HF_HOME", dir.path().join("cache"));
        check(&site.api(), dir.path());
    });
    work.await.unwrap();
}

fn body(id: &str, revision: &str) -> Value {
    json!({
        "model": {"source": "hub", "id": id, "revision": revision}, "pattern": "2:4",
        "calibration": {"dataset": "demo"}, "evaluation": {"perplexity": ["demo"]},
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_of_the_hub_is_described_and_none_of_its_weights_are_fetched() {
    let hub = hub_with_bundled_model().await;
    with_api(hub.endpoint(), |api, dir| {
        let validation = api.post("/v1/jobs:validate", &body(MODEL, "main"));
        assert_eq!(validation["valid"], true, "{validation}");
        let model = &validation["models"][0];
        assert_eq!(model["commit"], COMMIT);
        assert_eq!(model["architecture"], "LlamaForCausalLM");
        assert_eq!(validation["pruning"]["linears"], 28);
        let needs = &validation["needs"];
        let all = model["size_bytes"].as_u64().unwrap();
        assert_eq!(needs["download_bytes"], all, "nothing is in the cache");
        let memory = needs["memory_bytes"].as_u64();
        assert!(memory > Some(1 << 20), "{needs}");
        // The window's length is that of the model.
        assert_eq!(validation["request"]["calibration"]["seq_len"], 256);
        assert!(!dir.join("cache/hub/models--org--tiny").exists());
    })
    .await;
    assert_eq!(hub.downloads(WEIGHTS), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_hub_does_not_have_and_what_cannot_be_pruned_is_a_problem() {
    let hub = hub_with_bundled_model().await;
    with_api(hub.endpoint(), |api, _| {
        for (id, revision, says) in [("org/tiyn", "main", "org/tiyn"), (MODEL, "v9", "v9")] {
            let mut body = body(id, revision);
            body["sparsity"] = json!(7);
            let validation = api.post("/v1/jobs:validate", &body);
            let problems = &validation["problems"];
            assert_eq!(problems[0]["pointer"], "/sparsity", "{validation}");
            assert_eq!(problems[1]["pointer"], "/model", "{validation}");
            assert_eq!(problems[1]["code"], "model_not_found");
            let detail = problems[1]["detail"].as_str().unwrap();
            assert!(detail.contains(says), "{detail}");
        }
        let mut body = body(MODEL, "main");
        body["pattern"] = json!("3:7");
        let validation = api.post("/v1/jobs:validate", &body);
        assert_eq!(validation["problems"][0]["code"], "pattern_mismatch");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_is_away_is_said_and_not_asked_again_at_once() {
    let hub = hub_with_bundled_model().await;
    hub.keep_waiting(true);
    with_patient_api(hub.endpoint(), "0.3", move |api, _| {
        for _ in 0..2 {
            let validation = api.post("/v1/jobs:validate", &body(MODEL, "main"));
            assert_eq!(validation["valid"], true, "{validation}");
            assert_eq!(validation["unchecked"][0]["pointer"], "/model");
            let reason = validation["unchecked"][0]["detail"].as_str().unwrap();
            assert!(reason.contains("within 0.3 s"), "{reason}");
            assert_eq!(validation["needs"]["memory_bytes"], Value::Null);
            hub.keep_waiting(false);
        }
        assert_eq!(hub.requests(), 0);
    })
    .await;
    let nobody = "http://127.0.0.1:9".to_owned();
    with_api(nobody, |api, _| {
        let validation = api.post("/v1/jobs:validate", &body(MODEL, "main"));
        let reason = validation["unchecked"][0]["detail"].as_str().unwrap();
        assert!(reason.contains("hub"), "{reason}");
    })
    .await;
}
