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
    with_patient_api(endpoint, "170", check).await;
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
        assert!(
            !dir.join("cache/hub/models--org--tiny")
                .try_exists()
                .unwrap()
        );
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

fn pinned() -> Value {
    json!([{"id": MODEL, "revision": "main", "commit": COMMIT}])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submission_pins_the_revision_and_knows_what_the_model_needs() {
    let hub = hub_with_bundled_model().await;
    with_api(hub.endpoint(), |api, _| {
        let job = api.post("/v1/jobs", &body(MODEL, "main"));
        assert_eq!(job["status"], "queued", "{job}");
        assert_eq!(job["commits"], pinned());
        assert_eq!(job["calibration"]["seq_len"], 256);
        assert!(job["estimate"]["memory_bytes"].is_u64(), "{job}");
        assert!(job["estimate"]["disk_bytes"].is_u64(), "{job}");
        // Both sides are the same commit.
        let both = json!({
            "type": "evaluate", "model": MODEL, "baseline": MODEL, "evaluation": {"perplexity": ["demo"]},
        });
        assert_eq!(api.post("/v1/jobs", &both)["commits"], pinned());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hub_is_asked_with_the_token_of_the_flag() {
    let hub = hub_with_bundled_model().await;
    hub.require_token("hf_ours");
    let endpoint = hub.endpoint();
    let work = tokio::task::spawn_blocking(move || {
        let (dir, database) = (tempfile::tempdir().unwrap(), Database::sqlite());
        let site = Site::new(dir.path(), &database)
            .with("SECATEUR_HUB_CHECK_SECONDS", "170")
            .with("HF_ENDPOINT", endpoint)
            .with("HF_HOME", dir.path().join("cache"));
        let api = site.starting(&["--no-worker", "--hub-token", "hf_ours"]);
        let validation = api
            .listening()
            .post("/v1/jobs:validate", &body(MODEL, "main"));
        assert_eq!(validation["models"][0]["commit"], COMMIT, "{validation}");
    });
    work.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_misspelt_model_is_refused_at_once() {
    let hub = hub_with_bundled_model().await;
    with_api(hub.endpoint(), |api, _| {
        for (id, revision) in [("org/tiyn", "main"), (MODEL, "v9")] {
            let problem = api.post("/v1/jobs", &body(id, revision));
            assert_eq!(problem["status"], 422, "{problem}");
            assert_eq!(problem["code"], "model_not_found");
            assert_eq!(problem["errors"][0]["pointer"], "/model");
        }
        assert_eq!(api.get("/v1/jobs")["data"], json!([]));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submission_is_accepted_while_the_hub_is_silent() {
    let hub = hub_with_bundled_model().await;
    hub.keep_waiting(true);
    with_patient_api(hub.endpoint(), "0.3", |api, _| {
        let job = api.post("/v1/jobs", &body(MODEL, "main"));
        assert_eq!(job["status"], "queued", "{job}");
        assert_eq!(job["commits"], json!([]));
        assert_eq!(job["estimate"]["memory_bytes"], Value::Null);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_use_the_commit_of_the_submission_and_no_small_worker_takes_it() {
    let hub = hub_with_bundled_model().await;
    let endpoint = hub.endpoint();
    let work = tokio::task::spawn_blocking(move || {
        let (dir, database) = (tempfile::tempdir().unwrap(), Database::sqlite());
        let site = Site::new(dir.path(), &database)
            .with("SECATEUR_HUB_CHECK_SECONDS", "170")
            .with("HF_ENDPOINT", endpoint)
            .with("HF_HOME", dir.path().join("cache"));
        let small = site.clone().with("SECATEUR_MEMORY_BYTES", "64M").server();
        let mut body = body(MODEL, "main");
        body["calibration"]["n_samples"] = json!(2);
        body["evaluation"]["windows"] = json!(1);
        let id = small.submit(&body);
        let waiting = small.job_when(&id, |job| job["status_reason"] == "no_worker_fits");
        assert_eq!(waiting["attempt"], 0, "{waiting}");
        drop(small);
        let server = site.server();
        assert_eq!(server.succeeded(&id)["commits"], pinned());
        assert_eq!(hub.count("GET revision/main"), 1, "by the submission");
        let noted = dir.path().join("cache/hub/models--org--tiny/refs/main");
        assert_eq!(std::fs::read_to_string(noted).unwrap(), COMMIT);
    });
    work.await.unwrap();
}
