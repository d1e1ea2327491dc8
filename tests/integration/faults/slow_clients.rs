//! Clients that send half of something, or read half of it: they are cut, and nobody else notices them.

use std::path::Path;
use std::time::Duration;

use reqwest::StatusCode;
use secateur::domain::job::attempt_end::AttemptEnd;
use secateur::domain::report::manifest::FileEntry;
use secateur::store::{self, Claim, DatabaseUrl, Lease, Store, Time};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::database::{Database, block_on};
use crate::support::processes::Site;
use crate::support::test_app::{TestApp, cpu, publication};

/// Long enough for an honest client, on a busy machine too.
const SHORT: Duration = Duration::from_secs(3);

/// Far more than the buffers between two sockets hold.
const LARGE: u64 = 64 << 20;

/// Connects and sends this.
async fn say(address: &str, text: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    stream
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

/// Everything until the server ends the connection.
async fn heard(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset is an end too.
    drop(stream.read_to_end(&mut bytes).await);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A succeeded job with one large file, whose bytes are all zero; gives the file's path in the API.
async fn large_artifact(store: &dyn Store, home: &Path, id: &str) -> String {
    let claim = Claim {
        free_disk_bytes: None,
        worker_id: "worker_elsewhere".to_owned(),
        device: cpu(),
        lease: Duration::from_mins(5),
    };
    let job = store.claim_next_job(&claim).await.unwrap().unwrap();
    assert_eq!(job.id.to_string(), id);
    let lease = Lease::of(&job).unwrap();
    let mut brought = publication(lease.attempt);
    brought.files = vec![FileEntry {
        name: "large.bin".to_owned(),
        size_bytes: LARGE,
        sha256: "0".repeat(64),
    }];
    let attempt = format!("artifacts/jobs/{id}/attempts/{}/dense", lease.attempt);
    let directory = home.join(attempt);
    std::fs::create_dir_all(&directory).unwrap();
    let file = std::fs::File::create(directory.join("large.bin")).unwrap();
    file.set_len(LARGE).unwrap();
    let ending = AttemptEnd::Succeeded(Box::new(brought));
    assert!(store.finish(&lease, &ending, None).await.unwrap().is_some());
    format!("/v1/jobs/{id}/artifacts/large.bin")
}

/// The same for a server in this process.
async fn large_artifact_of(app: &TestApp) -> String {
    let id = app.submit("m").await;
    large_artifact(&*app.store().await, app.home(), &id).await
}

#[tokio::test]
async fn half_a_head_is_not_waited_for() {
    let app = TestApp::api_with(|listen| listen.connection_limits.head = SHORT).await;
    let mut stream = say(&app.address(), "GET /livez HTTP/1.1\r\nHost: loc").await;
    assert_eq!(heard(&mut stream).await, "");
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let app = TestApp::api_with(|listen| listen.connection_limits.head = SHORT).await;
    let mut stream = say(&app.address(), &get("/livez")).await;
    let answer = heard(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.ends_with("ok\n"), "{answer}");
}

#[tokio::test]
async fn half_a_body_is_a_timeout() {
    let app = TestApp::api_with(|listen| {
        listen.request_limits.request = SHORT;
        listen.hub_check_seconds = Duration::ZERO;
    })
    .await;
    let head = "POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    let text = format!("{head}Content-Length: 100\r\n\r\n{{\"model\":");
    let mut stream = say(&app.address(), &text).await;
    let answer = heard(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(answer.contains("\"code\":\"request_timeout\""), "{answer}");
    // Not by a request, which has no more time.
    let jobs = app.store().await.count_jobs().await.unwrap();
    assert_eq!(jobs.values().sum::<u64>(), 0);
}

#[tokio::test]
async fn downloads_that_nobody_reads_give_their_places_back() {
    let app = TestApp::api_with(|listen| {
        listen.connection_limits.stall = SHORT;
        // One for the client that prepares the artifact.
        listen.connection_limits.connections = 9;
    })
    .await;
    let path = large_artifact_of(&app).await;
    let mut stalled = Vec::new();
    for _ in 0..8 {
        stalled.push(say(&app.address(), &get(&path)).await);
    }
    // Comes after them, and is answered when one of them was cut.
    let mut late = say(&app.address(), &get("/livez")).await;
    let mut begin = [0; 12];
    late.read_exact(&mut begin).await.unwrap();
    assert_eq!(&begin, b"HTTP/1.1 200");
    drop(stalled);
}

#[test]
fn two_hundred_stalled_downloads_cost_little_and_disturb_nobody() {
    const CLIENTS: usize = 200;
    /// What the server may need for all of them, in KiB.
    const ALLOWED: u64 = 100 << 10;
    let database = Database::sqlite();
    let dir = tempfile::tempdir().unwrap();
    let server = Site::new(dir.path(), &database).api();
    let body = json!({"model": "org/name", "sparsity": 0.5, "calibration": {"dataset": "demo"}, "evaluation": {"perplexity": ["demo"]}});
    let job = server.post("/v1/jobs", &body);
    let id = job["id"].as_str().unwrap_or_else(|| panic!("{job}"));
    block_on(async {
        let store = store::open(&DatabaseUrl::from(database.url()), Time::Database).await;
        let path = large_artifact(&*store.unwrap(), &dir.path().join("home"), id).await;
        let before = server.process.memory_kib("VmRSS:");
        let mut stalled = Vec::new();
        for _ in 0..CLIENTS {
            let mut stream = say(server.address(), &get(&path)).await;
            // It has begun, and is left alone from here on.
            stream.read_exact(&mut [0; 64]).await.unwrap();
            stalled.push(stream);
        }
        let listed = tokio::task::block_in_place(|| server.get("/v1/jobs"));
        assert_eq!(listed["data"][0]["status"], "succeeded");
        let after = server.process.memory_kib("VmRSS:");
        eprintln!("{CLIENTS} stalled downloads: {before} KiB before, {after} KiB after");
        assert!(after < before + ALLOWED, "{before} KiB, then {after} KiB");
        drop(stalled);
    });
}

#[tokio::test]
async fn a_server_that_is_stopped_says_so_and_lets_requests_end() {
    let app = TestApp::api().await;
    let address = app.address();
    let path = large_artifact_of(&app).await;
    assert_eq!(app.get("/readyz").await.status, StatusCode::OK);
    let mut download = say(&address, &get(&path)).await;
    let mut begin = [0; 1024];
    download.read_exact(&mut begin).await.unwrap();
    let head_length = begin
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .unwrap()
        + 4;

    let stopping = tokio::spawn(app.stop());
    // New connections are answered, as health checks make one each time.
    let last = loop {
        let answer = heard(&mut say(&address, &closing("/readyz")).await).await;
        if !answer.starts_with("HTTP/1.1 200") {
            break answer;
        }
    };
    assert!(last.starts_with("HTTP/1.1 503"), "{last}");
    let (_, body) = last.split_once("\r\n\r\n").unwrap();
    let body: Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["checks"][4], json!({"name": "accepting", "ok": false}));
    assert_eq!(body["checks"][0]["ok"], true);

    let rest = tokio::io::copy(&mut download, &mut tokio::io::sink()).await;
    assert_eq!((begin.len() - head_length) as u64 + rest.unwrap(), LARGE);
    stopping.await.unwrap();
}

fn closing(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
}
