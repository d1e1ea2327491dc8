//! The real programs as processes of their own, with real work: killed, cancelled, compared.

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use rustix::process::Signal;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::support::command_line;
use crate::support::database::Database;
use crate::support::gate::Gate;
use crate::support::processes::{Server, Site, children_of, signal, until};
use crate::support::synthetic::{Shape, write_model};

const SHAPE: Shape = Shape {
    hidden: 64,
    intermediate: 128,
    blocks: 6,
    vocab: 768,
};

on_both_databases!(blocking:
    a_server_killed_while_pruning_finishes_the_job_after_its_restart_with_the_same_digest,
    a_killed_child_is_a_crash_and_the_next_attempt_goes_on,
    a_paused_job_goes_on_at_its_block_after_the_server_was_killed,
    the_job_of_a_killed_worker_process_goes_on_in_the_next_one,
);

/// A directory with a model of many blocks.
pub(crate) fn work_dir() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("models/deep");
    fs::create_dir_all(&model).unwrap();
    write_model(&model, SHAPE);
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo");
    fs::copy(demo.join("tokenizer.json"), model.join("tokenizer.json")).unwrap();
    dir
}

pub(crate) fn body() -> Value {
    json!({
        "model": {"source": "local", "id": "deep"}, "sparsity": 0.5, "pattern": "unstructured",
        "calibration": {"dataset": "demo", "n_samples": 8, "seq_len": 64, "seed": 3},
        "evaluation": {"perplexity": ["demo"], "seq_len": 128, "windows": 2},
    })
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// The digest of the same work by the command line, done once for all tests.
pub(crate) fn undisturbed_digest() -> &'static Value {
    static DIGEST: LazyLock<Value> =
        LazyLock::new(|| command_line::undisturbed_digest(&work_dir().path().join("models/deep")));
    &DIGEST
}

/// Submits a job and waits until two blocks are done; it is held there until the gate opens.
fn half_done(site: &Site, server: &Server) -> (String, Gate) {
    let gate = Gate::close(&site.path("home"), "block-2");
    let id = server.submit(&body());
    gate.wait_for_arrival();
    (id, gate)
}

/// With the digest of work that nobody disturbed.
fn assert_resumed(server: &Server, id: &str) -> Value {
    let job = server.succeeded(id);
    let events = server.events(id);
    let resumed = events.iter().find(|event| event["type"] == "resumed");
    let resumed = resumed.unwrap_or_else(|| panic!("not resumed: {events:?}"));
    assert_eq!(resumed["block"], 2, "{resumed}");
    assert_eq!(job["results"]["digest"], *undisturbed_digest());
    job
}

fn a_server_killed_while_pruning_finishes_the_job_after_its_restart_with_the_same_digest(
    database: &Database,
) {
    let dir = work_dir();
    let site = Site::new(dir.path(), database);
    let server = site.server();
    let (id, gate) = half_done(&site, &server);
    server.process.kill();
    drop(gate);

    let server = site.server();
    let job = assert_resumed(&server, &id);
    assert_eq!(
        (&job["attempt"], &job["crash_count"]),
        (&json!(2), &json!(1))
    );
}

fn the_job_of_a_killed_worker_process_goes_on_in_the_next_one(database: &Database) {
    let dir = work_dir();
    let site = Site::new(dir.path(), database);
    let server = site.api();
    let worker = site.worker();
    let (id, gate) = half_done(&site, &server);
    worker.kill();
    drop(gate);
    let _next = site.worker();
    let job = assert_resumed(&server, &id);
    assert_eq!(job["crash_count"], 1);
}

fn a_killed_child_is_a_crash_and_the_next_attempt_goes_on(database: &Database) {
    let dir = work_dir();
    let site = Site::new(dir.path(), database);
    let server = site.server();
    let (id, gate) = half_done(&site, &server);
    signal(server.process.only_child(), Signal::KILL);
    drop(gate);
    let job = assert_resumed(&server, &id);
    assert_eq!(job["crash_count"], 1);
    assert_eq!(job["attempts"][0]["outcome"], "crashed");
}

fn a_paused_job_goes_on_at_its_block_after_the_server_was_killed(database: &Database) {
    let dir = work_dir();
    let site = Site::new(dir.path(), database);
    let server = site.server();
    let (id, gate) = half_done(&site, &server);
    server.post(&format!("/v1/jobs/{id}/pause"), &json!({}));
    let log = site.path(format!("serve-{}.log", server.process.pid()));
    until("the attempt to hear of it", || {
        let log = fs::read_to_string(&log).unwrap();
        log.contains("pausing after this block").then_some(())
    });
    drop(gate);
    let paused = server.job_when(&id, |job| job["status"] == "paused");
    assert_eq!(paused["attempts"][0]["outcome"], "paused");
    assert_eq!(children_of(server.process.pid()), [0u32; 0]);
    server.process.kill();

    let server = site.server();
    server.post(&format!("/v1/jobs/{id}/resume"), &json!({}));
    let job = server.succeeded(&id);
    let events = server.events(&id);
    let resumed = events.iter().find(|event| event["type"] == "resumed");
    // It heard of it in the third block.
    assert_eq!(resumed.unwrap()["block"], 3, "{events:?}");
    assert_eq!(
        (&job["attempt"], &job["failed_attempts"]),
        (&json!(2), &json!(0))
    );
    assert_eq!(job["results"]["digest"], *undisturbed_digest());
}

#[test]
fn cancel_ends_the_child_and_frees_what_it_held() {
    let dir = work_dir();
    let database = Database::sqlite();
    let site = Site::new(dir.path(), &database);
    let server = site.server();
    let (id, _gate) = half_done(&site, &server);
    server.cancel(&id);
    server.job_when(&id, |job| job["status"] == "cancelled");
    assert_eq!(children_of(server.process.pid()), [0u32; 0]);
    let scratch = site.path(format!("home/scratch/{id}"));
    until("the scratch directory to be removed", || {
        (!scratch.try_exists().unwrap()).then_some(())
    });
}

#[test]
fn a_killed_job_that_removes_blocks_makes_its_pass_again_and_leaves_the_same_model() {
    let dir = work_dir();
    let database = Database::sqlite();
    let site = Site::new(dir.path(), &database);
    let server = site.server();
    let mut body = body();
    body["method"] = json!("blocks");
    let gate = Gate::close(&site.path("home"), "block-2");
    let id = server.submit(&body);
    gate.wait_for_arrival();
    signal(server.process.only_child(), Signal::KILL);
    drop(gate);
    let job = server.succeeded(&id);
    assert_eq!(
        (&job["attempt"], &job["crash_count"]),
        (&json!(2), &json!(1))
    );
    let undisturbed = server.submit(&body);
    let undisturbed = server.succeeded(&undisturbed);
    assert_eq!(job["results"]["digest"], undisturbed["results"]["digest"]);
    let sparsity = json!({"requested": 0.5, "achieved": 0.5});
    assert_eq!(job["results"]["sparsity"], sparsity);

    let artifact = server.get(&format!("/v1/jobs/{id}/artifacts/config.json"));
    assert_eq!(artifact["num_hidden_layers"], 3);
    let report = server.get(&format!("/v1/jobs/{id}/report"));
    let parts = report["structure"]["parts"].as_array().unwrap();
    let kept = parts.iter().filter(|part| !part["new_name"].is_null());
    assert_eq!((parts.len(), kept.count()), (6, 3));
}
