//! What happens to a finished artifact, and to an attempt that ends, when something is in the way at that very moment.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hyper::{Method, StatusCode};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::faults::stand_still::stop_between_writes;
use crate::support::database::{Database, block_on};
use crate::support::gate::Gate;
use crate::support::processes::{Process, Server, Site, signal, until};
use crate::support::servers::s3_server::{Fault, S3Server};
use crate::support::synthetic::{Shape, write_local_model};

on_both_databases!(blocking:
    a_worker_that_stands_still_while_it_stores_costs_one_attempt,
    an_end_that_is_refused_at_first_is_written_before_the_worker_stops,
);

const BLOCKS: usize = 8;

const SHAPE: Shape = Shape {
    hidden: 128,
    intermediate: 256,
    blocks: BLOCKS,
    vocab: 768,
};

/// Less than the client waits for an answer of the bucket.
const PROMPT: Duration = Duration::from_secs(30);

/// More than any test meets.
const MANY: usize = 1000;

fn site(dir: &Path, database: &Database) -> Site {
    write_local_model(&dir.join("models/deep"), SHAPE);
    Site::new(dir, database)
}

fn site_with_bucket(dir: &Path, database: &Database, bucket: &S3Server) -> Site {
    site(dir, database).in_bucket(bucket)
}

fn body() -> Value {
    json!({
        "model": {"source": "local", "id": "deep"}, "sparsity": 0.5, "pattern": "unstructured",
        "calibration": {"dataset": "demo", "n_samples": 8, "seq_len": 64},
        "evaluation": {"perplexity": ["demo"], "seq_len": 64, "windows": 1},
    })
}

/// The API, a worker, and a job whose artifact is on its way into a bucket that does not answer.
fn held(site: &Site, bucket: &S3Server, times: usize) -> (Server, Process, String) {
    bucket.fail(Method::PUT, "/dense/", Fault::Silent, times);
    let (server, worker) = (site.api(), site.worker());
    let id = server.submit(&body());
    until("the upload", || (bucket.unmet() < times).then_some(()));
    (server, worker, id)
}

fn scratch(site: &Site, id: &str) -> PathBuf {
    site.path(format!("home/scratch/{id}"))
}

fn wait_for_log(site: &Site, worker: u32, text: &str) {
    let log = site.path(format!("worker-{worker}.log"));
    until(text, || {
        let log = fs::read_to_string(&log).unwrap();
        log.contains(text).then_some(())
    });
}

#[test]
fn a_job_that_failed_for_want_of_a_bucket_goes_on_when_it_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let bucket = S3Server::start();
    let database = Database::sqlite();
    let site = site_with_bucket(dir.path(), &database, &bucket);
    let denied = Fault::Status(StatusCode::FORBIDDEN, "AccessDenied");
    bucket.fail(Method::PUT, "/dense/", denied, MANY);
    let server = site.server();
    let id = server.submit(&body());
    let job = server.job_when(&id, |job| job["status"] == "failed");
    assert_eq!(job["error"]["code"], "unavailable", "{job}");
    assert_eq!(job["attempt"], 3, "{job}");
    server.process.terminate();
    bucket.heal();

    // A start sweeps everything once.
    let server = site.server();
    assert!(scratch(&site, &id).join("artifact").try_exists().unwrap());
    let index = |key: &String| key.ends_with("/checkpoint.json");
    assert!(bucket.objects().iter().any(index), "{:?}", bucket.objects());
    server.post(&format!("/v1/jobs/{id}/retry"), &json!({}));
    let job = server.job_when(&id, |job| job["attempt"] == 4);
    assert_eq!(job["failed_attempts"], 0, "{job}");
    server.succeeded(&id);
    assert!(server.resumed_block(&id, 4) >= Some(BLOCKS as u64 - 1));
    until("the files of a job that succeeded to be removed", || {
        let has_gone = !scratch(&site, &id).try_exists().unwrap();
        (has_gone && !bucket.objects().iter().any(index)).then_some(())
    });
}

#[test]
fn a_worker_that_is_stopped_while_it_stores_gives_the_attempt_back() {
    let dir = tempfile::tempdir().unwrap();
    let bucket = S3Server::start();
    let database = Database::sqlite();
    let site = site_with_bucket(dir.path(), &database, &bucket);
    let (server, worker, id) = held(&site, &bucket, MANY);
    let began = Instant::now();
    worker.terminate();
    assert!(began.elapsed() < PROMPT, "{:?}", began.elapsed());
    let job = server.job(&id);
    assert_eq!(job["status"], "queued", "{job}");
    assert_eq!(job["attempts"][0]["outcome"], "released", "{job}");
    assert_eq!(job["failed_attempts"], 0, "{job}");
    bucket.heal();
    let _next = site.worker();
    let job = server.succeeded(&id);
    assert_eq!(job["attempt"], 2, "{job}");
    assert!(server.resumed_block(&id, 2) >= Some(BLOCKS as u64 - 1));
}

#[test]
fn a_job_is_cancelled_while_its_artifact_is_stored() {
    let dir = tempfile::tempdir().unwrap();
    let bucket = S3Server::start();
    let database = Database::sqlite();
    let site = site_with_bucket(dir.path(), &database, &bucket);
    let (server, _worker, id) = held(&site, &bucket, MANY);
    let began = Instant::now();
    assert_eq!(server.cancel(&id)["status"], "cancelling");
    server.job_when(&id, |job| job["status"] == "cancelled");
    assert!(began.elapsed() < PROMPT, "{:?}", began.elapsed());
    until("the scratch directory to be removed", || {
        (!scratch(&site, &id).try_exists().unwrap()).then_some(())
    });
}

/// On one home with another worker, whose process cannot begin before the first one has let go.
fn a_worker_that_stands_still_while_it_stores_costs_one_attempt(database: &Database) {
    let dir = tempfile::tempdir().unwrap();
    let bucket = S3Server::start();
    let site = site_with_bucket(dir.path(), database, &bucket).with("SECATEUR_LEASE_SECONDS", "1");
    let (server, stopped, id) = held(&site, &bucket, 1);
    stop_between_writes(stopped.pid(), database);
    let rival = site.worker();
    server.job_when(&id, |job| job["attempt"] == 2);
    wait_for_log(&site, rival.pid(), "it is waited for");
    signal(stopped.pid(), Signal::CONT);
    wait_for_log(&site, stopped.pid(), "lease lost, attempt discarded");
    let job = server.succeeded(&id);
    assert_eq!(job["attempt"], 2, "{job}");
    assert_eq!(job["failed_attempts"], 1, "{job}");
    assert!(server.resumed_block(&id, 2) >= Some(BLOCKS as u64 - 1));
    let events = server.events(&id);
    let ends = events.iter().filter(|event| event["type"] == "succeeded");
    assert_eq!(ends.count(), 1, "{events:?}");
}

/// A worker in the middle of a job whose end the database will not take. The job is held there until the gate opens.
fn refused(site: &Site, database: &Database) -> (Server, Process, String, Gate) {
    let gate = Gate::close(&site.path("home"), "block-2");
    let (server, worker) = (site.api(), site.worker());
    let id = server.submit(&body());
    gate.wait_for_arrival();
    server.job_when(&id, |job| job["phase"] == "pruning");
    block_on(database.refuse("update", "attempts")).unwrap();
    (server, worker, id, gate)
}

/// The lock files of workers.
fn lock_files(site: &Site) -> usize {
    fs::read_dir(site.path("home/workers")).unwrap().count()
}

fn an_end_that_is_refused_at_first_is_written_before_the_worker_stops(database: &Database) {
    let dir = tempfile::tempdir().unwrap();
    let site = site(dir.path(), database);
    let (server, worker, id, _gate) = refused(&site, database);
    let pid = worker.pid();
    let stopping = std::thread::spawn(move || worker.terminate());
    wait_for_log(&site, pid, "cannot write the end of an attempt");
    block_on(database.accept_again("attempts")).unwrap();
    stopping.join().unwrap();
    let job = server.job(&id);
    assert_eq!(job["status"], "queued", "{job}");
    assert_eq!(job["attempts"][0]["outcome"], "released", "{job}");
    assert_eq!(lock_files(&site), 0);
}

#[test]
fn a_worker_that_stops_without_writing_an_end_counts_as_dead_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::sqlite();
    let site = site(dir.path(), &database);
    let (server, worker, id, gate) = refused(&site, &database);
    worker.terminate();
    assert_eq!(lock_files(&site), 1);
    block_on(database.accept_again("attempts")).unwrap();
    drop(gate);
    let _next = site.worker();
    let job = server.succeeded(&id);
    assert_eq!(job["attempt"], 2, "{job}");
    assert_eq!(job["crash_count"], 1, "{job}");
}
