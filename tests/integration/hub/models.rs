//! Fetching models, against a local server that speaks the hub's API.

use std::path::PathBuf;
use std::time::Duration;

use secateur::domain::ErrorCode;
use secateur::domain::job::progress::Step;
use secateur::pipeline::hub::{FetchedModel, HubError, HubModel, HubOptions, HubToken};
use tempfile::TempDir;

use crate::support::servers::mock_hub::{COMMIT, Fault, MODEL, MockHub, sha256, weights};

pub(crate) const WEIGHTS: &str = "model.safetensors";

/// Options for one test: its own cache, and no patience.
pub(crate) fn options(hub: &MockHub, cache: &TempDir) -> HubOptions {
    HubOptions {
        endpoint: Some(hub.endpoint()),
        token: Some(HubToken::new("unused")),
        cache_dir: Some(cache.path().to_path_buf()),
        retry_delay: Duration::from_millis(1),
        ..HubOptions::default()
    }
}

async fn fetch(options: &HubOptions) -> Result<FetchedModel, HubError> {
    HubModel::resolve(MODEL, "main", options)
        .await?
        .fetch(&mut |_| ())
        .await
}

fn names(model: &FetchedModel) -> Vec<&str> {
    model.files.iter().map(|file| file.name.as_str()).collect()
}

/// The only blob with the content's digest as its name.
fn blob(cache: &TempDir, content: &[u8]) -> PathBuf {
    cache
        .path()
        .join("models--org--tiny/blobs")
        .join(sha256(content))
}

fn cached(cache: &TempDir, name: &str) -> PathBuf {
    cache
        .path()
        .join("models--org--tiny/snapshots")
        .join(COMMIT)
        .join(name)
}

/// Neither the link nor the blob of the weights was left behind.
fn assert_no_weights(cache: &TempDir) {
    assert!(cached(cache, WEIGHTS).symlink_metadata().is_err());
    assert!(!blob(cache, &weights()).try_exists().unwrap());
}

#[tokio::test]
async fn a_model_is_fetched_with_its_tokenizer_and_nothing_else() {
    let (hub, cache) = (MockHub::with_model().await, TempDir::new().unwrap());
    let model = fetch(&options(&hub, &cache)).await.unwrap();
    assert_eq!(model.commit, COMMIT);
    assert_eq!(names(&model), ["config.json", WEIGHTS, "tokenizer.json"]);
    assert_eq!(std::fs::read(model.dir.join(WEIGHTS)).unwrap(), weights());
    assert_eq!(model.files[1].sha256, sha256(&weights()));
    assert_eq!(model.files[1].size_bytes, 600_000);
    assert_eq!(hub.downloads("README.md"), 0);
}

#[tokio::test]
async fn the_config_is_fetched_before_any_weights() {
    let (hub, cache) = (MockHub::with_model().await, TempDir::new().unwrap());
    let model = HubModel::resolve(MODEL, "main", &options(&hub, &cache))
        .await
        .unwrap();
    let config = model.fetch_config().await.unwrap();
    assert!(
        std::fs::read_to_string(config)
            .unwrap()
            .contains("LlamaForCausalLM")
    );
    assert_eq!(model.commit(), COMMIT);
    assert_eq!(
        (hub.downloads("config.json"), hub.downloads(WEIGHTS)),
        (1, 0)
    );
}

#[tokio::test]
async fn branches_with_a_slash_and_commits_are_revisions_too() {
    let (hub, cache) = (MockHub::with_model().await, TempDir::new().unwrap());
    for revision in ["feature/x", COMMIT] {
        let model = HubModel::resolve(MODEL, revision, &options(&hub, &cache))
            .await
            .unwrap();
        assert_eq!(model.commit(), COMMIT);
    }
}

#[tokio::test]
async fn of_a_sharded_model_the_shards_of_the_index_are_fetched() {
    let (hub, cache) = (MockHub::with_model().await, TempDir::new().unwrap());
    hub.remove(WEIGHTS);
    let index = br#"{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}"#;
    hub.add("model.safetensors.index.json", index);
    for shard in [
        "model-1.safetensors",
        "model-2.safetensors",
        "consolidated.safetensors",
    ] {
        hub.add_large(shard, shard.as_bytes());
    }
    let model = fetch(&options(&hub, &cache)).await.unwrap();
    let expected = [
        "config.json",
        "model-1.safetensors",
        "model-2.safetensors",
        "model.safetensors.index.json",
        "tokenizer.json",
    ];
    assert_eq!(names(&model), expected);
    assert_eq!(hub.downloads("consolidated.safetensors"), 0);
}

#[tokio::test]
async fn an_index_that_names_an_absent_shard_fails_before_the_weights() {
    for shard in ["model-2.safetensors", "../../../etc/passwd"] {
        let (hub, cache) = (MockHub::with_model().await, TempDir::new().unwrap());
        hub.remove(WEIGHTS);
        hub.add_large("model-1.safetensors", b"one");
        let index = serde_json::json!({"weight_map": {"a": "model-1.safetensors", "b": shard}});
        hub.add("model.safetensors.index.json", index.to_string().as_bytes());
        let error = fetch(&options(&hub, &cache)).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::MissingShard);
        assert!(error.to_string().contains(shard), "{error}");
        assert_eq!(hub.downloads("model-1.safetensors"), 0);
    }
}

#[tokio::test]
async fn an_index_that_is_no_index_is_a_malformed_checkpoint() {
    let (hub, cache) = (MockHub::with_model().await, TempDir::new().unwrap());
    hub.remove(WEIGHTS);
    hub.add_large("model-1.safetensors", b"one");
    hub.add("model.safetensors.index.json", b"{\"weight_map\": ");
    let error = fetch(&options(&hub, &cache)).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::MalformedCheckpoint);
}

#[tokio::test]
async fn the_page_of_a_refusal_is_not_kept_as_weights() {
    for status in [401, 403] {
        let (hub, cache) = (MockHub::with_model().await, TempDir::new().unwrap());
        hub.fail_always(WEIGHTS, Fault::Status(status));
        let error = fetch(&options(&hub, &cache)).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::ModelAccessDenied, "{error}");
        assert_eq!(
            hub.downloads(WEIGHTS),
            1,
            "a refusal is not asked for again"
        );
        assert_no_weights(&cache);
    }
}

#[tokio::test]
async fn a_page_that_claims_to_be_fine_is_a_corrupt_download() {
    let (hub, cache) = (MockHub::with_model().await, TempDir::new().unwrap());
    hub.fail_always(WEIGHTS, Fault::PageWithStatus200);
    let error = fetch(&options(&hub, &cache)).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::DownloadCorrupt);
    let expected = r#"model.safetensors of model "org/tiny" has 26 bytes, the hub lists 600000"#;
    assert_eq!(error.to_string(), expected);
    assert_eq!(hub.downloads(WEIGHTS), 3);
    assert_no_weights(&cache);
}

#[tokio::test]
async fn other_content_of_the_right_length_is_a_corrupt_download() {
    for name in [WEIGHTS, "tokenizer.json"] {
        let (hub, cache) = (MockHub::with_model().await, TempDir::new().unwrap());
        hub.fail_always(name, Fault::WrongContent);
        let error = fetch(&options(&hub, &cache)).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::DownloadCorrupt);
        assert!(error.to_string().contains("has the digest"), "{error}");
        assert_eq!(hub.downloads(name), 3);
        assert!(cached(&cache, name).symlink_metadata().is_err());
    }
}

#[tokio::test]
async fn a_length_that_differs_from_the_listing_is_a_corrupt_download() {
    let (hub, cache) = (MockHub::with_model().await, TempDir::new().unwrap());
    hub.list_length(WEIGHTS, 600_001);
    let error = fetch(&options(&hub, &cache)).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::DownloadCorrupt);
    assert_no_weights(&cache);
}

#[tokio::test]
async fn a_damaged_download_is_fetched_again() {
    let (hub, cache) = (MockHub::with_model().await, TempDir::new().unwrap());
    hub.fail_first(WEIGHTS, &[Fault::WrongContent]);
    let model = fetch(&options(&hub, &cache)).await.unwrap();
    assert_eq!(std::fs::read(model.dir.join(WEIGHTS)).unwrap(), weights());
    assert_eq!(hub.downloads(WEIGHTS), 2);
}

#[tokio::test]
async fn a_cut_body_is_fetched_again() {
    let (hub, cache) = (MockHub::with_model().await, TempDir::new().unwrap());
    hub.fail_first(WEIGHTS, &[Fault::Cut, Fault::Cut]);
    let model = fetch(&options(&hub, &cache)).await.unwrap();
    assert_eq!(std::fs::read(model.dir.join(WEIGHTS)).unwrap(), weights());
    assert_eq!(hub.downloads(WEIGHTS), 3);
}

#[tokio::test]
async fn a_body_that_is_always_cut_makes_the_hub_unavailable() {
    let (hub, cache) = (MockHub::with_model().await, TempDir::new().unwrap());
    hub.fail_always(WEIGHTS, Fault::Cut);
    let error = fetch(&options(&hub, &cache)).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::HubUnavailable, "{error}");
    assert_eq!(hub.downloads(WEIGHTS), 3);
    assert_no_weights(&cache);
}

#[tokio::test]
async fn a_busy_hub_is_asked_again() {
    let (hub, cache) = (MockHub::with_model().await, TempDir::new().unwrap());
    hub.fail_first(WEIGHTS, &[Fault::Status(503), Fault::Status(503)]);
    fetch(&options(&hub, &cache)).await.unwrap();
}

#[tokio::test]
async fn a_hub_that_stays_broken_is_unavailable_and_its_page_is_not_kept() {
    for status in [500, 503] {
        let (hub, cache) = (MockHub::with_model().await, TempDir::new().unwrap());
        hub.fail_always(WEIGHTS, Fault::Status(status));
        let error = fetch(&options(&hub, &cache)).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::HubUnavailable);
        assert!(
            error.to_string().contains(&format!("HTTP {status}")),
            "{error}"
        );
        assert_no_weights(&cache);
    }
}

#[tokio::test]
async fn a_hub_that_falls_silent_is_unavailable() {
    let (hub, cache) = (MockHub::with_model().await, TempDir::new().unwrap());
    hub.fail_always(WEIGHTS, Fault::Silence);
    let options = HubOptions {
        stall_timeout: Duration::from_secs(3),
        ..options(&hub, &cache)
    };
    let error = fetch(&options).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::HubUnavailable);
    assert!(error.to_string().contains("nothing came for 3"), "{error}");
    assert_no_weights(&cache);
}

#[tokio::test]
async fn a_hub_that_cannot_be_reached_is_unavailable() {
    let (hub, cache) = (MockHub::with_model().await, TempDir::new().unwrap());
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let options = HubOptions {
        endpoint: Some(format!("http://{nobody}")),
        ..options(&hub, &cache)
    };
    let error = fetch(&options).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::HubUnavailable);
    assert!(!error.to_string().contains("http://"), "{error}");
}

#[tokio::test]
async fn an_unknown_model_and_an_unknown_revision_are_not_found() {
    let (hub, cache) = (MockHub::with_model().await, TempDir::new().unwrap());
    let options = options(&hub, &cache);
    for (id, revision) in [("org/other", "main"), (MODEL, "v9")] {
        let error = HubModel::resolve(id, revision, &options).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::ModelNotFound);
        assert!(
            error.to_string().contains(id) && error.to_string().contains(revision),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_gated_model_opens_to_its_token_alone() {
    let (hub, cache) = (MockHub::with_model().await, TempDir::new().unwrap());
    hub.require_token("right");
    let with_token = |token: &str| HubOptions {
        token: Some(HubToken::new(token)),
        ..options(&hub, &cache)
    };
    let error = fetch(&with_token("wrong")).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::ModelAccessDenied);
    fetch(&with_token("right")).await.unwrap();
}

#[tokio::test]
async fn a_gated_file_is_refused_though_its_listing_is_public() {
    let (hub, cache) = (MockHub::with_model().await, TempDir::new().unwrap());
    hub.gate("config.json");
    let model = HubModel::resolve(MODEL, "main", &options(&hub, &cache))
        .await
        .unwrap();
    let error = model.fetch_config().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::ModelAccessDenied);
    assert_eq!(hub.downloads("config.json"), 0);
}

#[tokio::test]
async fn pickled_weights_are_refused_by_name_before_any_download() {
    let (hub, cache) = (MockHub::with_model().await, TempDir::new().unwrap());
    hub.remove(WEIGHTS);
    hub.add_large("pytorch_model.bin", b"pickle");
    hub.add_large("tiny-q4.gguf", b"GGUF");
    let error = fetch(&options(&hub, &cache)).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::UnsafeFormat);
    let expected =
        r#"model "org/tiny" has no safetensors weights, only pytorch_model.bin, tiny-q4.gguf"#;
    assert_eq!(error.to_string(), expected);
    assert_eq!(hub.downloads("config.json"), 0);
}

#[tokio::test]
async fn a_repository_without_weights_or_without_config_is_no_model() {
    for (absent, code) in [
        (WEIGHTS, ErrorCode::MissingShard),
        ("config.json", ErrorCode::InvalidConfig),
    ] {
        let (hub, cache) = (MockHub::with_model().await, TempDir::new().unwrap());
        hub.remove(absent);
        let error = fetch(&options(&hub, &cache)).await.unwrap_err();
        assert_eq!(error.code(), code, "{error}");
    }
}

#[tokio::test]
async fn a_cached_file_is_checked_and_not_fetched_again() {
    let (hub, cache) = (MockHub::with_model().await, TempDir::new().unwrap());
    let first = fetch(&options(&hub, &cache)).await.unwrap();
    let second = fetch(&options(&hub, &cache)).await.unwrap();
    assert_eq!(first.files, second.files);
    for name in names(&first) {
        assert_eq!(hub.downloads(name), 1, "{name}");
    }
}

#[tokio::test]
async fn a_cached_file_that_was_damaged_is_fetched_again() {
    let mut flipped = weights();
    flipped[300_000] ^= 1;
    for damage in [&flipped[..], &weights()[..27], b""] {
        let (hub, cache) = (MockHub::with_model().await, TempDir::new().unwrap());
        fetch(&options(&hub, &cache)).await.unwrap();
        std::fs::write(blob(&cache, &weights()), damage).unwrap();
        let model = fetch(&options(&hub, &cache)).await.unwrap();
        assert_eq!(std::fs::read(model.dir.join(WEIGHTS)).unwrap(), weights());
        assert_eq!(hub.downloads(WEIGHTS), 2);
    }
}

#[tokio::test]
async fn a_link_to_nothing_and_half_a_download_do_no_harm() {
    let (hub, cache) = (MockHub::with_model().await, TempDir::new().unwrap());
    fetch(&options(&hub, &cache)).await.unwrap();
    let blob = blob(&cache, &weights());
    std::fs::rename(&blob, format!("{}.incomplete", blob.display())).unwrap();
    let model = fetch(&options(&hub, &cache)).await.unwrap();
    assert_eq!(std::fs::read(model.dir.join(WEIGHTS)).unwrap(), weights());
}

#[tokio::test]
async fn two_jobs_that_want_the_same_model_fetch_it_once() {
    let (hub, cache) = (MockHub::with_model().await, TempDir::new().unwrap());
    let options = options(&hub, &cache);
    let (one, two) = tokio::join!(fetch(&options), fetch(&options));
    assert_eq!(one.unwrap().files, two.unwrap().files);
    assert_eq!(hub.downloads(WEIGHTS), 1);
}

#[tokio::test]
async fn progress_counts_the_bytes_of_all_files_up_to_their_sum() {
    let (hub, cache) = (MockHub::with_model().await, TempDir::new().unwrap());
    let mut steps: Vec<Step> = Vec::new();
    let model = HubModel::resolve(MODEL, "main", &options(&hub, &cache))
        .await
        .unwrap();
    let fetched = model.fetch(&mut |step| steps.push(step)).await.unwrap();
    let total = fetched
        .files
        .iter()
        .map(|file| file.size_bytes)
        .sum::<u64>();
    assert!(
        steps
            .iter()
            .all(|step| step.total == total && step.unit == "bytes"),
        "{steps:?}"
    );
    assert!(steps.is_sorted_by_key(|step| step.finished), "{steps:?}");
    assert_eq!(steps.last().unwrap().finished, total);
    let within_weights =
        |step: &&Step| step.name == WEIGHTS && step.finished > 100 && step.finished < 600_000;
    assert!(steps.iter().any(|step| within_weights(&step)), "{steps:?}");
}

#[tokio::test]
async fn a_model_larger_than_the_disk_is_refused_before_its_download() {
    let (hub, cache) = (MockHub::with_model().await, TempDir::new().unwrap());
    hub.list_length(WEIGHTS, 1 << 60);
    let error = fetch(&options(&hub, &cache)).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::InsufficientDisk);
    assert!(
        error.to_string().contains(&(1_u64 << 60).to_string()[..15]),
        "{error}"
    );
    assert_eq!(hub.downloads(WEIGHTS), 0);
}

#[tokio::test]
async fn hostile_ids_and_revisions_are_refused_without_a_request() {
    let (hub, cache) = (MockHub::with_model().await, TempDir::new().unwrap());
    let options = options(&hub, &cache);
    for (id, revision) in [
        ("../tiny", "main"),
        ("org/tiny", "../../x"),
        ("org/tiny", "/etc/passwd"),
        ("org", "main"),
    ] {
        let error = HubModel::resolve(id, revision, &options).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidRequest, "{id} {revision}");
    }
    assert_eq!(hub.requests(), 0);
}

#[tokio::test]
async fn files_with_hostile_names_are_left_where_they_are() {
    let (hub, cache) = (MockHub::with_model().await, TempDir::new().unwrap());
    for name in [
        "../../../out.safetensors",
        "/out.safetensors",
        "..\\out.safetensors",
        "onnx/out.safetensors",
    ] {
        hub.add_large(name, b"out");
    }
    let model = fetch(&options(&hub, &cache)).await.unwrap();
    assert_eq!(names(&model), ["config.json", WEIGHTS, "tokenizer.json"]);
}

#[tokio::test]
async fn offline_a_fetched_model_is_there_without_a_request() {
    let (hub, cache) = (MockHub::with_model().await, TempDir::new().unwrap());
    let online = fetch(&options(&hub, &cache)).await.unwrap();
    let requests = hub.requests();
    let options = HubOptions {
        offline: true,
        ..options(&hub, &cache)
    };
    for revision in ["main", COMMIT] {
        let model = HubModel::resolve(MODEL, revision, &options).await.unwrap();
        model.fetch_config().await.unwrap();
        assert_eq!(model.fetch(&mut |_| ()).await.unwrap().files, online.files);
    }
    assert_eq!(hub.requests(), requests);
}

#[tokio::test]
async fn offline_what_is_absent_or_damaged_is_not_fetched() {
    let (hub, cache) = (MockHub::with_model().await, TempDir::new().unwrap());
    let offline = HubOptions {
        offline: true,
        ..options(&hub, &cache)
    };
    let absent = fetch(&offline).await.unwrap_err();
    assert_eq!(hub.requests(), 0);
    fetch(&options(&hub, &cache)).await.unwrap();
    std::fs::write(blob(&cache, &weights()), b"damaged").unwrap();
    let damaged = fetch(&offline).await.unwrap_err();
    for error in [absent, damaged] {
        assert_eq!(error.code(), ErrorCode::HubUnavailable);
        assert!(error.to_string().contains("HF_HUB_OFFLINE"), "{error}");
    }
}
