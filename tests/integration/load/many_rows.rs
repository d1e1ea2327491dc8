//! Many queued jobs: each is taken once, and the API does not become slow.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use secateur::store::{Claim, Time};
use serde_json::{Value, json};

use crate::support::database::{Database, block_on};
use crate::support::processes::{Server, Site, until};
use crate::support::stub::{stub_model, stubbed_worker};
use crate::support::synthetic::{Shape, write_local_model};
use crate::support::test_app::cpu;

/// Without `SECATEUR_ROWS`.
const ROWS: usize = 300;

/// Clients that submit at the same time.
const CLIENTS: usize = 4;

/// Measured calls of each kind.
const CALLS: usize = 200;

on_both_databases!(blocking:
    two_workers_take_each_of_many_jobs_once,
);

/// `cargo test --test integration many_rows -- --ignored --nocapture --test-threads=1`
mod measured {
    use super::{Database, block_on, measure};

    #[test]
    #[ignore = "measures; takes minutes"]
    fn latency_beside_many_queued_jobs_on_sqlite() {
        measure("SQLite", &Database::sqlite());
    }

    #[test]
    #[ignore = "measures; takes minutes"]
    fn latency_beside_many_queued_jobs_on_postgres() {
        if let Some(database) = block_on(Database::postgres()) {
            measure("PostgreSQL", &database);
        }
    }
}

fn rows(default: usize) -> usize {
    let rows = std::env::var_os("SECATEUR_ROWS");
    rows.map_or(default, |rows| rows.to_str().unwrap().parse().unwrap())
}

fn two_workers_take_each_of_many_jobs_once(database: &Database) {
    let dir = tempfile::tempdir().unwrap();
    let rows = rows(ROWS);
    let site = site(dir.path(), database);
    let server = site.api();
    submit(&server, rows);
    assert_eq!(server.get("/v1/jobs?limit=1")["counts"]["queued"], rows);
    // Each takes its first job, and goes on when the other one has, too.
    server.post("/v1/queue/pause", &json!({}));
    let workers = ["one", "two"].map(|name| stubbed_worker(&site, name));
    let began = Instant::now();
    server.post("/v1/queue/resume", &json!({}));
    let mut over = 0;
    while over < rows as u64 {
        over = until("the end of more jobs", || {
            let counts = &server.get("/v1/jobs?limit=1")["counts"];
            counts["failed"].as_u64().filter(|&failed| failed > over)
        });
    }
    let seconds = began.elapsed().as_secs_f64();
    let mut cursor = String::new();
    let mut seen = 0;
    let mut by_worker = [0, 0];
    loop {
        let page = server.get(&format!("/v1/jobs?limit=100{cursor}"));
        for job in page["data"].as_array().unwrap() {
            assert_eq!(job["error"]["code"], "model_not_found", "{job}");
            assert_eq!(job["attempt"], 1, "{job}");
            let events = server.events(job["id"].as_str().unwrap());
            let started = events.iter().filter(|event| event["type"] == "started");
            let started: Vec<_> = started.collect();
            assert_eq!(started.len(), 1, "{events:?}");
            let is_second = started[0]["worker_id"] == workers[1].1;
            by_worker[usize::from(is_second)] += 1;
            seen += 1;
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen, rows);
    assert!(by_worker.iter().all(|&jobs| jobs > 0), "{by_worker:?}");
    eprintln!("{rows} jobs by two workers, {by_worker:?}, in {seconds:.1} s");
}

fn site(dir: &Path, database: &Database) -> Site {
    stub_model(dir, "meet");
    Site::new(dir, database)
}

pub(super) fn stub_body() -> Value {
    json!({
        "model": {"source": "local", "id": "meet"}, "sparsity": 0.5,
        "calibration": {"dataset": "demo"}, "evaluation": {"perplexity": ["demo"]},
    })
}

/// By several clients at once.
fn submit(server: &Server, rows: usize) {
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let jobs = (client..rows).step_by(CLIENTS);
            scope.spawn(move || jobs.for_each(|_| drop(server.submit(&stub_body()))));
        }
    });
}

/// How long calls take while a job computes on every processor and many others wait.
fn measure(name: &str, database: &Database) {
    let dir = tempfile::tempdir().unwrap();
    let site = site(dir.path(), database);
    let shape = Shape {
        vocab: 768,
        ..Shape::with_blocks(96)
    };
    write_local_model(&dir.path().join("models/deep"), shape);
    let server = site.api();
    let long = json!({
        "model": {"source": "local", "id": "deep"}, "sparsity": 0.5, "pattern": "unstructured",
        "calibration": {"dataset": "demo", "n_samples": 128, "seq_len": 512},
        "evaluation": {"perplexity": ["demo"], "seq_len": 128, "windows": 1},
    });
    let busy = server.submit(&long);
    let _worker = site.worker();
    server.job_when(&busy, |job| job["phase"] == "pruning");
    let rows = rows(10_000);
    submit(&server, rows);

    let create = timed(|| drop(server.submit(&stub_body())));
    let list = timed(|| drop(server.get("/v1/jobs")));
    let claim = claims(database);
    let load = fs::read_to_string("/proc/loadavg").unwrap();
    let job = server.job(&busy);
    assert_eq!(
        job["status"], "running",
        "it must compute all the time: {job}"
    );
    eprintln!(
        "{name}, {rows} queued jobs, one job pruning, load {}:",
        load.trim()
    );
    for (what, times) in [
        ("create", create),
        ("first page of the list", list),
        ("claim", claim),
    ] {
        let at = |share: f64| times[(share * (times.len() - 1) as f64).round() as usize];
        eprintln!("  {what}: p50 {:.1?}, p99 {:.1?}", at(0.5), at(0.99));
    }
}

/// Sorted.
pub(super) fn timed(mut call: impl FnMut()) -> Vec<Duration> {
    let mut times: Vec<_> = (0..CALLS)
        .map(|_| {
            let began = Instant::now();
            call();
            began.elapsed()
        })
        .collect();
    times.sort();
    times
}

pub(super) fn claims(database: &Database) -> Vec<Duration> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let url = database.as_url();
    let opening = secateur::store::open(&url, Time::Database);
    let store = runtime.block_on(opening).unwrap();
    let claim = Claim {
        free_disk_bytes: None,
        worker_id: "worker_measured".to_owned(),
        device: cpu(),
        lease: Duration::from_hours(1),
    };
    timed(|| {
        let claimed = runtime.block_on(store.claim_next_job(&claim)).unwrap();
        assert!(claimed.is_some());
    })
}
