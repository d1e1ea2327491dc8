//! Fetching data sets, against a local server that speaks the hub's API, and a job that needs nothing else.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use reqwest::StatusCode;
use secateur::corpora::HubSplit;
use secateur::datasets::SplitRows;
use secateur::domain::ErrorCode;
use secateur::domain::job::progress::Step;
use secateur::pipeline::hub::{HubError, HubOptions, fetch_split};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::hub::models::options;
use crate::hub::to_artifact::hub_with_bundled_model;
use crate::support::servers::mock_hub::{Fault, MODEL, MockHub, sha256};
use crate::support::test_app::TestApp;

const SPLIT: HubSplit = HubSplit {
    repo: "org/data",
    revision: "89abcdef0123456789abcdef0123456789abcdef",
    files: &["en/one.jsonl", "en/two.jsonl"],
};
const ONE: &[u8] = b"{\"n\": 1}\n{\"n\": 2}\n";
const TWO: &[u8] = b"{\"n\": 3}\n";

/// A hub with the split and a file beside it; gives the names of the split's files in its log.
async fn hub() -> (MockHub, [String; 2]) {
    let hub = MockHub::start().await;
    hub.add_of_dataset(&SPLIT, "en/other.jsonl", b"{\"n\": 4}\n");
    let names = [
        hub.add_of_dataset(&SPLIT, SPLIT.files[0], ONE),
        hub.add_of_dataset(&SPLIT, SPLIT.files[1], TWO),
    ];
    (hub, names)
}

async fn fetch(options: &HubOptions) -> Result<Vec<PathBuf>, HubError> {
    fetch_split(&SPLIT, options, &mut |_| ()).await
}

fn offline(hub: &MockHub, cache: &TempDir) -> HubOptions {
    HubOptions {
        offline: true,
        ..options(hub, cache)
    }
}

fn snapshot(cache: &TempDir, file: &str) -> PathBuf {
    let snapshots = cache.path().join("datasets--org--data/snapshots");
    snapshots.join(SPLIT.revision).join(file)
}

#[tokio::test]
async fn the_files_of_a_split_are_fetched_and_nothing_else() {
    let ((hub, _), cache) = (hub().await, TempDir::new().unwrap());
    let files = fetch(&options(&hub, &cache)).await.unwrap();
    let expected = [0, 1].map(|i| snapshot(&cache, SPLIT.files[i]));
    assert_eq!(files, expected);
    let documents = SplitRows::read(&files, Some(2)).unwrap();
    assert_eq!(documents.rows, [json!({"n": 1}), json!({"n": 2})]);
    assert_eq!(documents.n_rows, 3);
    assert!(!snapshot(&cache, "en/other.jsonl").try_exists().unwrap());
}

#[tokio::test]
async fn of_a_cached_split_the_hub_is_asked_nothing_online_or_offline() {
    let ((hub, _), cache) = (hub().await, TempDir::new().unwrap());
    let first = fetch(&options(&hub, &cache)).await.unwrap();
    let requests = hub.requests();
    for options in [options(&hub, &cache), offline(&hub, &cache)] {
        assert_eq!(fetch(&options).await.unwrap(), first);
    }
    assert_eq!(hub.requests(), requests);
}

#[tokio::test]
async fn plain_files_of_the_cache_are_used_while_the_hub_is_away() {
    let (hub, _) = hub().await;
    let cache = TempDir::new().unwrap();
    let online = options(&hub, &cache);
    let paths = fetch(&online).await.unwrap();
    for path in &paths {
        let content = std::fs::read(path).unwrap();
        std::fs::remove_file(path).unwrap();
        std::fs::write(path, content).unwrap();
    }
    let away = HubOptions {
        endpoint: Some("http://127.0.0.1:9".to_owned()),
        ..online
    };
    assert_eq!(fetch(&away).await.unwrap(), paths);
    std::fs::remove_file(&paths[1]).unwrap();
    assert!(fetch(&away).await.unwrap_err().is_outage());
    assert_eq!(std::fs::read(&paths[0]).unwrap(), ONE);
}

#[tokio::test]
async fn offline_an_incomplete_split_is_not_fetched() {
    let ((hub, names), cache) = (hub().await, TempDir::new().unwrap());
    fetch(&options(&hub, &cache)).await.unwrap();
    std::fs::remove_file(snapshot(&cache, SPLIT.files[1])).unwrap();
    let error = fetch(&offline(&hub, &cache)).await.unwrap_err();
    let expected = "the cache holds no complete data set \"org/data\", and HF_HUB_OFFLINE forbids asking the hub";
    assert_eq!(error.to_string(), expected);
    assert_eq!(hub.downloads(&names[1]), 1);
}

#[tokio::test]
async fn only_a_damaged_file_is_fetched_again() {
    let ((hub, names), cache) = (hub().await, TempDir::new().unwrap());
    let files = fetch(&options(&hub, &cache)).await.unwrap();
    std::fs::write(&files[1], b"{\"n\": 9}\n").unwrap();
    fetch(&options(&hub, &cache)).await.unwrap();
    assert_eq!(std::fs::read(&files[1]).unwrap(), TWO);
    assert_eq!([0, 1].map(|i| hub.downloads(&names[i])), [1, 2]);
}

#[tokio::test]
async fn what_the_hub_does_not_have_is_not_found() {
    let ((hub, names), cache) = (hub().await, TempDir::new().unwrap());
    hub.remove(&names[1]);
    let absent_file = fetch(&options(&hub, &cache)).await.unwrap_err();
    let elsewhere = HubSplit {
        repo: "org/absent",
        ..SPLIT
    };
    let options = options(&hub, &cache);
    let absent_repository = fetch_split(&elsewhere, &options, &mut |_| ()).await;
    for (error, word) in [
        (absent_file, "en/two.jsonl"),
        (absent_repository.unwrap_err(), "org/absent"),
    ] {
        assert!(matches!(error, HubError::NotFound { .. }), "{error:?}");
        assert!(error.to_string().contains(word), "{error}");
    }
    assert_eq!(hub.downloads(&names[0]), 0, "nothing is fetched in vain");
}

#[tokio::test]
async fn the_page_of_a_refusal_is_not_kept_as_data() {
    let ((hub, names), cache) = (hub().await, TempDir::new().unwrap());
    hub.fail_always(&names[0], Fault::Status(403));
    let error = fetch(&options(&hub, &cache)).await.unwrap_err();
    assert!(matches!(error, HubError::AccessDenied { status: 403, .. }));
    assert!(snapshot(&cache, SPLIT.files[0]).symlink_metadata().is_err());
}

#[tokio::test]
async fn a_cut_body_is_fetched_again_and_other_content_is_never_kept() {
    let ((hub, names), cache) = (hub().await, TempDir::new().unwrap());
    hub.fail_first(&names[0], &[Fault::Cut]);
    hub.fail_always(&names[1], Fault::WrongContent);
    let error = fetch(&options(&hub, &cache)).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::DownloadCorrupt, "{error}");
    assert_eq!([0, 1].map(|i| hub.downloads(&names[i])), [2, 3]);
    assert_eq!(
        std::fs::read(snapshot(&cache, SPLIT.files[0])).unwrap(),
        ONE
    );
    assert!(snapshot(&cache, SPLIT.files[1]).symlink_metadata().is_err());
}

#[tokio::test]
async fn progress_counts_the_bytes_of_all_files_up_to_their_sum() {
    let ((hub, _), cache) = (hub().await, TempDir::new().unwrap());
    let mut steps: Vec<Step> = Vec::new();
    let options = options(&hub, &cache);
    fetch_split(&SPLIT, &options, &mut |step| steps.push(step))
        .await
        .unwrap();
    let total = (ONE.len() + TWO.len()) as u64;
    assert!(steps.iter().all(|step| step.total == total), "{steps:?}");
    assert!(steps.is_sorted_by_key(|step| step.finished), "{steps:?}");
    assert_eq!(steps.last().unwrap().finished, total);
}

/// What the program itself fetches, by name and commit.
const WIKITEXT_TEST: HubSplit = HubSplit {
    repo: "Salesforce/wikitext",
    revision: "b08601e04326c79dfdd32d625aee71d232d685c3",
    files: &["wikitext-2-raw-v1/test-00000-of-00001.parquet"],
};
const C4_TRAIN: HubSplit = HubSplit {
    repo: "allenai/c4",
    revision: "1588ec454efa1a09f29cd18ddd04fe05fc8653a2",
    files: &["en/c4-train.00000-of-01024.json.gz"],
};
const C4_VALIDATION: HubSplit = HubSplit {
    files: &["en/c4-validation.00000-of-00008.json.gz"],
    ..C4_TRAIN
};

/// Rows as the public data set has them: a line with its newline, or nothing.
fn wikitext_rows() -> Vec<String> {
    let text = include_str!("../../../assets/demo/test.txt");
    let rows = text.lines().map(|line| match line {
        "" => String::new(),
        line => format!(" {line} \n"),
    });
    rows.collect()
}

fn parquet_of(rows: &[String]) -> Vec<u8> {
    let schema = parse_message_type("message schema { optional binary text (string); }");
    let mut bytes = Vec::new();
    let schema = Arc::new(schema.unwrap());
    let mut file = SerializedFileWriter::new(&mut bytes, schema, Arc::default()).unwrap();
    let mut group = file.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let texts: Vec<ByteArray> = rows.iter().map(|row| row.as_str().into()).collect();
    let typed = column.typed::<ByteArrayType>();
    typed
        .write_batch(&texts, Some(&vec![1; texts.len()]), None)
        .unwrap();
    column.close().unwrap();
    group.close().unwrap();
    file.close().unwrap();
    bytes
}

fn gzip_of(lines: impl Iterator<Item = Value>) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    for line in lines {
        writeln!(encoder, "{line}").unwrap();
    }
    encoder.finish().unwrap()
}

/// A hub that has everything that a minimal body asks for.
async fn complete_hub() -> MockHub {
    let hub = hub_with_bundled_model().await;
    let rows = parquet_of(&wikitext_rows());
    hub.add_of_dataset(&WIKITEXT_TEST, WIKITEXT_TEST.files[0], &rows);
    let long = include_str!("../../../assets/demo/calibration.txt");
    let documents = ["short", long, long].map(|text| json!({"text": text, "url": "x"}));
    let documents = gzip_of(documents.into_iter());
    hub.add_of_dataset(&C4_TRAIN, C4_TRAIN.files[0], &documents);
    hub
}

/// A program that runs attempts with this hub and a cache of its own.
fn child_with_hub(hub: &MockHub, dir: &Path) -> PathBuf {
    let script = format!(
        "#!/bin/sh\nHF_ENDPOINT='{}' HF_HOME='{}' NO_PROXY=127.0.0.1 exec '{}' \"$@\"\n",
        hub.endpoint(),
        dir.join("cache").display(),
        env!("CARGO_BIN_EXE_secateur"),
    );
    let path = dir.join("child.sh");
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn minimal_body() -> Value {
    json!({"model": MODEL, "sparsity": 0.5, "pattern": "unstructured"})
}

async fn submit(app: &TestApp, body: &Value) -> String {
    let answer = app.post("/v1/jobs", body).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
    answer.json()["id"].as_str().unwrap().to_owned()
}

async fn results(app: &TestApp, id: &str) -> Value {
    app.job_with_status(id, "succeeded").await;
    app.get(&format!("/v1/jobs/{id}/results")).await.json()
}

/// The dense perplexity of the bundled model and the text's digest, from a file of WikiText's own form.
fn measured_locally(dir: &Path) -> Value {
    let file = dir.join("wiki.test.raw");
    // A blank line of that form is a space.
    let lines = wikitext_rows().into_iter();
    let lines = lines.map(|row| {
        if row.is_empty() {
            " \n".to_owned()
        } else {
            row
        }
    });
    std::fs::write(&file, lines.collect::<String>()).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_secateur"))
        .args(["evaluate", "--json", "--model", "demo", "--eval-file"])
        .arg(&file)
        .output()
        .unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    report["results"]["perplexity"][0].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_minimal_body_needs_nothing_but_the_hub() {
    let (hub, dir) = (complete_hub().await, TempDir::new().unwrap());
    let app = TestApp::without_data(child_with_hub(&hub, dir.path())).await;
    let id = submit(&app, &minimal_body()).await;
    let measured = results(&app, &id).await["perplexity"][0].clone();
    let expected = sha256(wikitext_rows().join("\n\n").as_bytes());
    assert_eq!(measured["dataset"], "wikitext2");
    assert_eq!(measured["text_sha256"], expected);

    let local = measured_locally(dir.path());
    assert_eq!(measured["text_sha256"], local["text_sha256"]);
    assert_eq!(measured["windows"], local["windows"]);
    assert_eq!(measured["before"], local["after"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_c4_the_papers_excerpt_is_measured() {
    let (hub, dir) = (complete_hub().await, TempDir::new().unwrap());
    let text = |i: usize| format!("document {i} is about trees and about rain and about bread");
    let documents = (0..1100).map(|i| json!({ "text": text(i) }));
    // Whoever reads on finds a row that is none.
    let documents = documents.chain([json!({ "text": 7 })]);
    let documents = gzip_of(documents);
    hub.add_of_dataset(&C4_VALIDATION, C4_VALIDATION.files[0], &documents);
    let app = TestApp::without_data(child_with_hub(&hub, dir.path())).await;
    let mut body = minimal_body();
    body["method"] = "magnitude".into();
    body["evaluation"] = json!({"perplexity": ["c4"], "seq_len": 16});
    let id = submit(&app, &body).await;
    let measured = results(&app, &id).await["perplexity"][0].clone();
    let joined = (0..1100).map(text).collect::<Vec<_>>().join(" ");
    assert_eq!(measured["text_sha256"], sha256(joined.as_bytes()));
    assert_eq!(measured["windows"], 256);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_set_that_cannot_be_fetched_fails_the_job_before_anything_is_pruned() {
    let (hub, dir) = (complete_hub().await, TempDir::new().unwrap());
    let name = hub.add_of_dataset(&WIKITEXT_TEST, WIKITEXT_TEST.files[0], b"soon gone");
    hub.remove(&name);
    let app = TestApp::without_data(child_with_hub(&hub, dir.path())).await;
    let id = submit(&app, &minimal_body()).await;
    let error = app.job_with_status(&id, "failed").await["error"].clone();
    assert_eq!(error["code"], "dataset_not_found");
    assert_eq!(error["phase"], "downloading");
    let message = error["message"].as_str().unwrap();
    for words in [
        "wikitext2/wiki.test.raw",
        "data set \"Salesforce/wikitext\" at b08601e",
    ] {
        assert!(message.contains(words), "{message}");
    }
}
