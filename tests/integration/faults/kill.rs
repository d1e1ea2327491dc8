//! The real programs as processes of their own, with real work: killed, cancelled, compared.

use std::fs;
use std::io::{BufRead as _, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};

use reqwest::Method;
use reqwest::blocking::RequestBuilder;
use rustix::process::Signal;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::cli::command_line;
use crate::support::database::Database;
use crate::support::gate::Gate;
use crate::support::processes::{self, LOOK, Site, children_of, signal, until};
use crate::support::servers::s3_server::S3Server;
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

/// `serve` or `worker` as a process; killed when dropped.
pub(crate) struct Process(Child);

impl Process {
    fn spawn(
        dir: &Path,
        database: &Database,
        args: &[&str],
    ) -> (Self, Lines<BufReader<ChildStderr>>) {
        Self::spawn_with(dir, "home", database, args, |_| {})
    }

    fn spawn_with(
        dir: &Path,
        home: &str,
        database: &Database,
        args: &[&str],
        adjust: impl FnOnce(&mut Command),
    ) -> (Self, Lines<BufReader<ChildStderr>>) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_secateur"));
        adjust(&mut command);
        let mut process = command
            .args(args)
            .args(["--log-format", "json", "--heartbeat-seconds", "0.2"])
            .args(["--sweep-seconds", "0.2"])
            .env("SECATEUR_DATABASE_URL", database.url())
            .arg("--home")
            .arg(dir.join(home))
            .arg("--models-dir")
            .arg(dir.join("models"))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stderr.take().unwrap()).lines();
        (Self(process), lines)
    }

    pub(crate) fn worker(dir: &Path, database: &Database) -> Self {
        Self::worker_with(dir, database, &[])
    }

    pub(crate) fn worker_with(dir: &Path, database: &Database, args: &[&str]) -> Self {
        let (process, lines) = Self::spawn(dir, database, &[&["worker"], args].concat());
        std::thread::spawn(move || lines.for_each(drop));
        process
    }

    /// A worker with a home of its own and its artifacts in a bucket.
    pub(crate) fn worker_on(
        dir: &Path,
        home: &str,
        database: &Database,
        bucket: &S3Server,
        args: &[&str],
    ) -> Self {
        let (process, lines) = Self::spawn_with(dir, home, database, args, |command| {
            command.envs(bucket.environment());
        });
        std::thread::spawn(move || lines.for_each(drop));
        process
    }

    /// A worker that says how it is, and where.
    pub(crate) fn listening_worker(dir: &Path, database: &Database) -> (Self, String) {
        let args = ["worker", "--listen", "127.0.0.1:0"];
        let (process, mut lines) = Self::spawn(dir, database, &args);
        let addr = address(&mut lines, "listening for health checks of this worker");
        std::thread::spawn(move || lines.for_each(drop));
        (process, format!("http://{addr}"))
    }

    /// Asks it to stop, and waits until it has.
    pub(crate) fn stop(mut self) {
        let asked = Command::new("kill").arg(self.0.id().to_string()).status();
        assert!(asked.unwrap().success());
        assert!(self.0.wait().unwrap().success());
    }

    pub(crate) fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.0.kill().is_ok() {
            let ended = self.0.wait();
            drop(ended);
        }
    }
}

/// The address in the first line of the log that says `message`.
fn address(lines: &mut Lines<BufReader<ChildStderr>>, message: &str) -> String {
    let addr = lines.find_map(|line| {
        let event: Value = serde_json::from_str(&line.unwrap()).ok()?;
        let fields = event.get("fields").unwrap_or(&event);
        (fields["message"] == message).then(|| fields["addr"].as_str().unwrap().to_owned())
    });
    addr.unwrap()
}

/// A server that listens.
pub(crate) struct Server {
    process: Process,
    url: String,
    client: reqwest::blocking::Client,
}

/// A server that does not listen yet.
pub(crate) struct Starting(Process, Lines<BufReader<ChildStderr>>);

impl Starting {
    /// Waits until it does; panics where it ends instead.
    pub(crate) fn listening(self) -> Server {
        let Self(process, mut lines) = self;
        let addr = address(&mut lines, "listening");
        // The pipe must not fill up.
        std::thread::spawn(move || lines.for_each(drop));
        let client = reqwest::blocking::Client::builder()
            .no_proxy()
            .build()
            .unwrap();
        Server {
            process,
            url: format!("http://{addr}"),
            client,
        }
    }
}

impl Server {
    pub(crate) fn spawn(dir: &Path, database: &Database, args: &[&str]) -> Starting {
        let args = [&["serve", "--listen", "127.0.0.1:0"], args].concat();
        let (process, lines) = Process::spawn(dir, database, &args);
        Starting(process, lines)
    }

    /// One with a home of its own and its artifacts in a bucket.
    pub(crate) fn spawn_on(
        dir: &Path,
        home: &str,
        database: &Database,
        bucket: &S3Server,
        args: &[&str],
    ) -> Starting {
        let args = [&["serve", "--listen", "127.0.0.1:0"], args].concat();
        let (process, lines) = Process::spawn_with(dir, home, database, &args, |command| {
            command.envs(bucket.environment());
        });
        Starting(process, lines)
    }

    /// A file, from wherever the server sends us.
    pub(crate) fn download(&self, path: &str) -> Vec<u8> {
        let answer = self.client.get(format!("{}{path}", self.url)).send();
        answer.unwrap().bytes().unwrap().to_vec()
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        self.client
            .get(format!("{}{path}", self.url))
            .send()
            .unwrap()
            .json()
            .unwrap()
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url))
    }

    /// An answer that is no JSON.
    pub(crate) fn text(&self, path: &str) -> String {
        self.client
            .get(format!("{}{path}", self.url))
            .send()
            .unwrap()
            .text()
            .unwrap()
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Value {
        self.client
            .post(format!("{}{path}", self.url))
            .json(body)
            .send()
            .unwrap()
            .json()
            .unwrap()
    }

    /// The job as soon as it is as wanted; a test that waits for ever is ended by its runner.
    pub(crate) fn job_when(&self, id: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let job = self.get(&format!("/v1/jobs/{id}"));
            if wanted(&job) {
                return job;
            }
            assert!(job["status"] != "failed", "{job}");
            std::thread::sleep(LOOK);
        }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> &str {
        &self.url["http://".len()..]
    }

    /// A line of its `/proc/<id>/status`, such as `VmRSS`, in KiB.
    pub(crate) fn memory_kib(&self, line: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.0.id())).unwrap();
        let value = status.lines().find_map(|text| text.strip_prefix(line));
        let digits = value.unwrap().trim_matches(|c: char| !c.is_ascii_digit());
        digits.parse().unwrap()
    }

    pub(crate) fn kill(self) {
        self.process.kill();
    }
}

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

/// The digest of the same work by the command line, without a server.
pub(crate) fn undisturbed_digest(dir: &Path) -> Value {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo/calibration.txt");
    let (model, out) = (dir.join("models/deep"), dir.join("out"));
    command_line::prune(&[
        "--model",
        model.to_str().unwrap(),
        "--sparsity",
        "0.5",
        "--calibration-file",
        demo.to_str().unwrap(),
        "--n-samples",
        "8",
        "--seq-len",
        "64",
        "--seed",
        "3",
        "--out",
        out.to_str().unwrap(),
    ])["digest"]
        .clone()
}

/// Submits a job and waits until two blocks are done; it is held there until the gate opens.
fn half_done(site: &Site, server: &processes::Server) -> (String, Gate) {
    let gate = Gate::close(&site.path("home"), "block-2");
    let id = server.submit(&body());
    gate.wait_for_arrival();
    (id, gate)
}

/// With the digest of work that nobody disturbed.
fn assert_resumed(dir: &Path, server: &processes::Server, id: &str) -> Value {
    let job = server.succeeded(id);
    let events = server.events(id);
    let resumed = events.iter().find(|event| event["type"] == "resumed");
    let resumed = resumed.unwrap_or_else(|| panic!("not resumed: {events:?}"));
    assert_eq!(resumed["block"], 2, "{resumed}");
    assert_eq!(job["results"]["digest"], undisturbed_digest(dir));
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
    let job = assert_resumed(dir.path(), &server, &id);
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
    let job = assert_resumed(dir.path(), &server, &id);
    assert_eq!(job["crash_count"], 1);
}

fn a_killed_child_is_a_crash_and_the_next_attempt_goes_on(database: &Database) {
    let dir = work_dir();
    let site = Site::new(dir.path(), database);
    let server = site.server();
    let (id, gate) = half_done(&site, &server);
    signal(server.process.only_child(), Signal::KILL);
    drop(gate);
    let job = assert_resumed(dir.path(), &server, &id);
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
    assert_eq!(job["results"]["digest"], undisturbed_digest(dir.path()));
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
