//! What 100,000 finished jobs with 1,000,000 events cost: requests, claims, and a worker without work.
//!
//! `cargo test --test integration scale -- --ignored --nocapture --test-threads=1`. `SECATEUR_PROGRAM` names another build to
//! measure instead of this one.

use std::fs;
use std::path::Path;
use std::time::Duration;

use reqwest::Method;

use super::many_rows::{claims, stub_body, timed};
use crate::support::database::{Database, block_on};
use crate::support::processes::{Process, Server, Site};
use crate::support::stub::stub_model;

const JOBS: usize = 100_000;

/// Of each job.
const EVENTS: usize = 10;

/// How long the worker without work is watched: two rounds of its sweep.
const IDLE: Duration = Duration::from_mins(1);

#[test]
#[ignore = "measures; takes minutes"]
fn the_cost_of_many_finished_jobs_on_sqlite() {
    measure("SQLite", &Database::sqlite());
}

#[test]
#[ignore = "measures; takes minutes"]
fn the_cost_of_many_finished_jobs_on_postgres() {
    if let Some(database) = block_on(Database::postgres()) {
        measure("PostgreSQL", &database);
    }
}

fn measure(name: &str, database: &Database) {
    let dir = tempfile::tempdir().unwrap();
    stub_model(dir.path(), "meet");
    let site = Site::new(dir.path(), database).with("SECATEUR_SWEEP_SECONDS", "30");
    let other = std::env::var_os("SECATEUR_PROGRAM");
    let site = match &other {
        Some(program) => site.of(Path::new(program)),
        None => site,
    };
    let server = site.api();
    fill(database, &server.submit(&stub_body()));
    create_artifacts(&site.path("home/artifacts/jobs"));
    eprintln!("{name}, {JOBS} finished jobs, {} events:", JOBS * EVENTS);
    for (what, query) in [
        ("list", ""),
        ("list, a status that all have", "?status=succeeded"),
        (
            "list, statuses that few have",
            "?status=queued,running,failed",
        ),
        ("list, a model that none has", "?model=another"),
        ("list, a type that none has", "?type=evaluate"),
        ("list, a submitter that none is", "?submitter=nobody"),
        ("list, a name that none has", "?name=another"),
        ("list, names that none begins with", "?name_prefix=another"),
        ("list, metadata that none has", "?metadata[team]=nobody"),
        (
            "list, before a time",
            "?created_before=2020-01-01T00:00:00Z",
        ),
    ] {
        let path = format!("/v1/jobs{query}");
        tell(what, &timed(|| drop(server.get(&path))));
    }
    tell(
        "metrics",
        &timed(|| drop(server.status_and_text("/metrics"))),
    );
    tell("create", &timed(|| drop(server.submit(&stub_body()))));
    let mut paths = finished(&server).into_iter();
    let mut delete = || {
        drop(
            server
                .request(Method::DELETE, &paths.next().unwrap())
                .send(),
        );
    };
    tell("delete", &timed(&mut delete));
    if other.is_none() {
        tell("claim", &claims(database));
    }
    watch_idle_worker(&site, database);
}

fn tell(what: &str, times: &[Duration]) {
    let at = |share: f64| times[(share * (times.len() - 1) as f64).round() as usize];
    eprintln!("  {what}: p50 {:.1?}, p99 {:.1?}", at(0.5), at(0.99));
}

/// The paths of the newest finished jobs.
fn finished(server: &Server) -> Vec<String> {
    let mut paths = Vec::new();
    let mut cursor = String::new();
    while paths.len() < 200 {
        let page = server.get(&format!("/v1/jobs?status=succeeded&limit=100{cursor}"));
        let ids = page["data"].as_array().unwrap().iter();
        paths.extend(ids.map(|job| format!("/v1/jobs/{}", job["id"].as_str().unwrap())));
        cursor = format!("&cursor={}", page["next_cursor"].as_str().unwrap());
    }
    paths
}

/// Digits of the n-th id; `job_` comes before them.
fn id(number: usize) -> String {
    format!("job_019abcde00007000800000{number:010x}")
}

/// Copies a queued job, as if the copies had succeeded.
fn fill(database: &Database, pattern: &str) {
    let (numbers, id) = match database {
        Database::Sqlite(_) => (
            format!(
                "with recursive n (i) as (select 1 union all select i + 1 from n where i < {JOBS})"
            ),
            "'job_019abcde00007000800000' || printf('%010x', i)",
        ),
        Database::Postgres { .. } => (
            format!("with n (i) as (select * from generate_series(1, {JOBS}))"),
            "'job_019abcde00007000800000' || lpad(to_hex(i), 10, '0')",
        ),
    };
    let columns = "metadata, type, spec, model_id, method, max_attempts, run_after, created_at, updated_at, queued_at";
    let jobs = format!(
        "{numbers} insert into jobs (id, state, attempt, failed_attempts, crash_count, version, {columns}) \
         select {id}, 'succeeded', 1, 0, 0, 9, {columns} from n, jobs where jobs.id = '{pattern}'"
    );
    let events = format!(
        "{numbers}, seqs (seq) as (select i from n where i <= {EVENTS}) \
         insert into events (job_id, seq, at, attempt, kind, number) \
         select {id}, seq, 0, 1, '{{\"type\":\"queued\"}}', 1000 + i * {EVENTS} + seq from n, seqs"
    );
    let last = format!(
        "update event_numbers set last = {}",
        2000 + (JOBS + 1) * EVENTS
    );
    for statement in [&jobs, &events, &last, "analyze"] {
        block_on(database.execute(statement)).unwrap();
    }
}

/// The directories that each of them has, without files.
fn create_artifacts(jobs: &Path) {
    for number in 1..=JOBS {
        fs::create_dir_all(jobs.join(id(number)).join("attempts/1/dense")).unwrap();
    }
}

/// What a worker without work takes of a processor: in its first minute, and in the next one.
fn watch_idle_worker(site: &Site, database: &Database) {
    let waiting = "update jobs set state = 'cancelled', lease_owner = null, lease_expires_at = null where state = 'queued'";
    block_on(database.execute(waiting)).unwrap();
    let worker = site.worker();
    let mut before = 0.0;
    for minute in ["first", "second"] {
        std::thread::sleep(IDLE);
        let now = cpu_seconds(&worker);
        eprintln!("  idle worker, {minute} minute: {:.2} CPU s", now - before);
        before = now;
    }
}

fn cpu_seconds(process: &Process) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.pid())).unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let ticks = fields.split(' ').skip(11).take(2);
    ticks
        .map(|ticks| ticks.parse::<f64>().unwrap())
        .sum::<f64>()
        / 100.0
}
