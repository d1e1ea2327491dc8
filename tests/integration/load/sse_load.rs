//! Many clients of the stream of all jobs, cut at random again and again: each sees every event once.
//!
//! A short run by default; CONTRIBUTING.md has the command of the long one.

use std::time::Duration;

use reqwest::StatusCode;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::support::database::{Database, block_on};
use crate::support::processes::{Server, Site};

/// Events per second; each job that is submitted and cancelled has two.
const RATE: u32 = 10;

/// How long a connection lives on average: one in ten is cut each second.
const LIFETIME: Duration = Duration::from_secs(10);

/// What the server may ever have needed, in KiB.
const ALLOWED_KIB: u64 = 150 << 10;

/// After the last event, for the slowest client.
const PATIENCE: Duration = Duration::from_mins(1);

on_both_databases!(blocking: every_client_sees_every_event_once);

fn every_client_sees_every_event_once(database: &Database) {
    let clients = setting("SECATEUR_SSE_CLIENTS", 100);
    let seconds = setting("SECATEUR_SSE_SECONDS", 5);
    let limit = getrlimit(Resource::Nofile);
    let current = limit.maximum;
    setrlimit(Resource::Nofile, Rlimit { current, ..limit }).unwrap();

    let dir = tempfile::tempdir().unwrap();
    let server = Site::new(dir.path(), database).api();
    block_on(run(&server, clients, seconds));
    let (_, metrics) = server.status_and_text("/metrics");
    let (peak, now) = (
        server.process.memory_kib("VmHWM:"),
        server.process.memory_kib("VmRSS:"),
    );
    eprintln!("memory of the server: {peak} KiB at most, {now} KiB at the end");
    assert!(peak < ALLOWED_KIB, "{peak} KiB");
    assert!(metrics.contains("\nsecateur_sse_clients "), "{metrics}");
}

/// A number from the environment.
fn setting(name: &str, default: u32) -> u32 {
    std::env::var_os(name).map_or(default, |text| text.to_str().unwrap().parse().unwrap())
}

async fn run(server: &Server, clients: u32, seconds: u32) {
    let jobs = seconds * RATE / 2;
    let events = u64::from(jobs) * 2;
    let mut running = JoinSet::new();
    for seed in 0..clients {
        running.spawn(client(server.address().to_owned(), seed, events));
    }
    let began = Instant::now();
    append(server.address(), jobs).await;
    let ended = Instant::now();
    let all = async {
        let (mut cuts, mut last) = (0, ended);
        while let Some(client) = running.join_next().await {
            let (own_cuts, done) = client.unwrap();
            cuts += own_cuts;
            last = last.max(done);
        }
        (cuts, last)
    };
    let (cuts, last) = tokio::time::timeout(PATIENCE, all).await.unwrap();
    eprintln!(
        "{clients} clients saw {events} events in {:?} through {cuts} cuts, the last one {:?} after the last event",
        ended - began,
        last - ended
    );
}

/// Submits and cancels jobs, at an even pace.
async fn append(address: &str, jobs: u32) {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut pace = tokio::time::interval(Duration::from_secs(2) / RATE);
    for _ in 0..jobs {
        pace.tick().await;
        let body = json!({"model": "demo", "pattern": "2:4"});
        let url = format!("http://{address}/v1/jobs");
        let answer = http.post(&url).json(&body).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::ACCEPTED);
        let job: Value = answer.json().await.unwrap();
        let url = format!("{url}/{}/cancel", job["id"].as_str().unwrap());
        let answer = http.post(url).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
    }
}

/// Follows until it has seen all `events`; gives how often it was cut, and when it was done.
async fn client(address: String, seed: u32, events: u64) -> (u32, Instant) {
    let mut random = Random(u64::from(seed));
    let (mut last_seen, mut cuts) = (0, 0);
    loop {
        let life = random.up_to(LIFETIME * 2);
        let connection = follow(&address, &mut last_seen, events);
        match tokio::time::timeout(life, connection).await {
            Ok(()) => return (cuts, Instant::now()),
            Err(_elapsed) => cuts += 1,
        }
    }
}

/// One connection. No job is deleted, so that the numbers have no holes: each must be the next one.
async fn follow(address: &str, seen: &mut u64, events: u64) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "GET /v1/events/stream HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: {seen}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut lines = BufReader::with_capacity(2048, stream).lines();
    let (mut id, mut has_data) = (None, false);
    while *seen < events {
        let line = lines.next_line().await.unwrap();
        let line = line.unwrap_or_else(|| panic!("the server ended the stream"));
        if let Some(number) = line.strip_prefix("id: ") {
            id = Some(number.parse::<u64>().unwrap());
        } else if line.starts_with("data: ") {
            has_data = true;
        } else if line.is_empty() {
            // The first message of a connection has no data.
            if has_data {
                assert_eq!(id, Some(*seen + 1));
                *seen += 1;
            }
            (id, has_data) = (None, false);
        }
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn up_to(&mut self, most: Duration) -> Duration {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        most.mul_f64(mixed as f64 / u64::MAX as f64)
    }
}
