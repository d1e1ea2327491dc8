//! The real programs as processes of their own, to be watched, stopped and killed.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use reqwest::blocking::RequestBuilder;
use reqwest::{Method, StatusCode};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::database::Database;
use crate::support::servers::s3_server::S3Server;

/// Far more than anything takes, so that a test that hangs fails, and says what it waited for.
pub(crate) const PATIENCE: Duration = Duration::from_mins(3);

/// How often something is looked at. Leaves the processors to those that are looked at.
pub(crate) const LOOK: Duration = Duration::from_millis(20);

/// What the processes of one test have in common: a directory and a database.
#[derive(Clone)]
pub(crate) struct Site {
    dir: PathBuf,
    program: PathBuf,
    variables: Vec<(&'static str, OsString)>,
}

impl Site {
    /// Everything lies below `dir`: the home, `models`, `data` and the logs. Everything is in a hurry.
    pub(crate) fn new(dir: &Path, database: &Database) -> Self {
        for read in ["models", "data"] {
            fs::create_dir_all(dir.join(read)).unwrap();
        }
        let site = Self {
            dir: dir.to_owned(),
            program: env!("CARGO_BIN_EXE_secateur").into(),
            variables: Vec::new(),
        };
        site.with("SECATEUR_DATABASE_URL", database.url())
            .with("SECATEUR_HOME", dir.join("home"))
            .with("SECATEUR_MODELS_DIR", dir.join("models"))
            .with("SECATEUR_DATA_DIR", dir.join("data"))
            .with("SECATEUR_LISTEN", "127.0.0.1:0")
            .with("SECATEUR_LOG_FORMAT", "json")
            .with("SECATEUR_HEARTBEAT_SECONDS", "0.2")
            .with("SECATEUR_SWEEP_SECONDS", "0.2")
            .with("SECATEUR_RETRY_SECONDS", "0.2")
            .with("SECATEUR_HUB_CHECK_SECONDS", "0")
            .with("SECATEUR_REQUEST_SECONDS", "180")
            .with("NO_PROXY", "127.0.0.1")
    }

    /// The same with one variable more, or another value of it.
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<OsString>) -> Self {
        self.variables.retain(|(known, _)| *known != name);
        self.variables.push((name, value.into()));
        self
    }

    /// The same with the artifacts in a bucket.
    pub(crate) fn in_bucket(self, bucket: &S3Server) -> Self {
        let environment = bucket.environment().into_iter();
        environment.fold(self, |site, (name, value)| site.with(name, value))
    }

    /// The same with another file as the program.
    pub(crate) fn of(self, program: &Path) -> Self {
        Self {
            program: program.to_owned(),
            ..self
        }
    }

    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.join(name)
    }

    /// API and worker.
    pub(crate) fn server(&self) -> Server {
        self.starting(&[]).listening()
    }

    /// The API alone.
    pub(crate) fn api(&self) -> Server {
        self.starting(&["--no-worker"]).listening()
    }

    pub(crate) fn starting(&self, flags: &[&str]) -> Starting {
        let arguments = [&["serve"], flags].concat();
        let (process, addresses) = self.reporting(&arguments, "listening", "addr");
        Starting(process, addresses)
    }

    pub(crate) fn worker(&self) -> Process {
        self.try_worker().unwrap()
    }

    /// `None` where it ends instead of starting.
    pub(crate) fn try_worker(&self) -> Option<Process> {
        self.try_announced_worker().map(|(process, _)| process)
    }

    /// The worker and its id.
    pub(crate) fn announced_worker(&self) -> (Process, String) {
        self.try_announced_worker().unwrap()
    }

    fn try_announced_worker(&self) -> Option<(Process, String)> {
        let (process, ids) = self.reporting(&["worker"], "worker started", "worker.id");
        let id = ids.recv_timeout(PATIENCE).ok()?;
        Some((process, id))
    }

    /// A worker that answers health checks, and its URL.
    pub(crate) fn listening_worker(&self) -> (Process, String) {
        let flags = ["worker", "--listen", "127.0.0.1:0"];
        let message = "listening for health checks of this worker";
        let (process, addresses) = self.reporting(&flags, message, "addr");
        let address = addresses.recv_timeout(PATIENCE).unwrap();
        (process, format!("http://{address}"))
    }

    /// A process, and a field of each line of its log with this message.
    fn reporting(
        &self,
        arguments: &[&str],
        message: &'static str,
        field: &'static str,
    ) -> (Process, Receiver<String>) {
        let (sender, fields) = channel();
        let process = self.spawn(arguments, move |event| {
            if event["message"] == message {
                // Nobody waits for a second one.
                drop(sender.send(event[field].as_str().unwrap().to_owned()));
            }
        });
        (process, fields)
    }

    /// What it logs goes through `see`, and into a file, for whoever has to find out why a test failed.
    fn spawn(&self, arguments: &[&str], see: impl Fn(&Value) + Send + 'static) -> Process {
        let mut child = Command::new(&self.program)
            .args(arguments)
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let log = format!("{}-{}.log", arguments[0], child.id());
        let mut log = File::create(self.path(log)).unwrap();
        std::thread::spawn(move || {
            // The pipe must not fill up, also when the directory of the log is gone.
            for line in lines.map_while(Result::ok) {
                drop(writeln!(log, "{line}"));
                if let Ok(event) = serde_json::from_str::<Value>(&line) {
                    see(event.get("fields").unwrap_or(&event));
                }
            }
        });
        Process(child)
    }
}

/// `serve` or `worker` as a process; killed when dropped.
pub(crate) struct Process(Child);

impl Process {
    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// As by `kill -9`; gone when this returns.
    pub(crate) fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// As by `kill`: waits until it has ended by itself.
    pub(crate) fn terminate(mut self) -> ExitStatus {
        signal(self.pid(), Signal::TERM);
        self.0.wait().unwrap()
    }

    /// A line of its `/proc/<id>/status`, such as `VmRSS:`, in KiB.
    pub(crate) fn memory_kib(&self, line: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let value = status.lines().find_map(|text| text.strip_prefix(line));
        let digits = value.unwrap().trim_matches(|c: char| !c.is_ascii_digit());
        digits.parse().unwrap()
    }

    /// The only process that it started, as soon as there is one.
    pub(crate) fn only_child(&self) -> u32 {
        until("a child", || {
            let children = children_of(self.pid());
            (children.len() == 1).then(|| children[0])
        })
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

/// A server that does not listen yet.
pub(crate) struct Starting(Process, Receiver<String>);

impl Starting {
    /// Waits until it does; panics where it ends instead.
    pub(crate) fn listening(self) -> Server {
        self.try_listening().unwrap()
    }

    /// `None` where it ends instead.
    pub(crate) fn try_listening(self) -> Option<Server> {
        let Self(process, addresses) = self;
        let address = addresses.recv_timeout(PATIENCE).ok()?;
        let client = reqwest::blocking::Client::builder()
            .no_proxy()
            .timeout(PATIENCE)
            .build()
            .unwrap();
        Some(Server {
            process,
            url: format!("http://{address}"),
            client,
        })
    }
}

/// A server that listens, and a client of it.
pub(crate) struct Server {
    pub(crate) process: Process,
    url: String,
    client: reqwest::blocking::Client,
}

impl Server {
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> &str {
        &self.url["http://".len()..]
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, self.url(path))
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        self.status_and_json(path).1
    }

    /// A file, from where the server sends the client.
    pub(crate) fn download(&self, path: &str) -> Vec<u8> {
        let answer = self.request(Method::GET, path).send().unwrap();
        answer.bytes().unwrap().to_vec()
    }

    pub(crate) fn status_and_json(&self, path: &str) -> (StatusCode, Value) {
        let answer = self.client.get(self.url(path)).send().unwrap();
        (answer.status(), answer.json().unwrap())
    }

    /// `/livez` and `/metrics` are no JSON.
    pub(crate) fn status_and_text(&self, path: &str) -> (StatusCode, String) {
        let answer = self.client.get(self.url(path)).send().unwrap();
        (answer.status(), answer.text().unwrap())
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Value {
        let request = self.client.post(self.url(path)).json(body);
        request.send().unwrap().json().unwrap()
    }

    /// The id of a job that must be accepted.
    pub(crate) fn submit(&self, body: &Value) -> String {
        let answer = self.post("/v1/jobs", body);
        let id = answer["id"].as_str();
        id.unwrap_or_else(|| panic!("{answer}")).to_owned()
    }

    pub(crate) fn cancel(&self, id: &str) -> Value {
        self.post(&format!("/v1/jobs/{id}/cancel"), &json!({}))
    }

    pub(crate) fn job(&self, id: &str) -> Value {
        self.get(&format!("/v1/jobs/{id}"))
    }

    /// The job as soon as it is as wanted.
    pub(crate) fn job_when(&self, id: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let began = Instant::now();
        loop {
            let job = self.job(id);
            if wanted(&job) {
                return job;
            }
            let ended = job["finished_at"].is_string();
            assert!(!ended, "ended and was never as wanted: {job}");
            assert!(
                began.elapsed() < PATIENCE,
                "never became as wanted: {job}, before that {last}"
            );
            last = job;
            std::thread::sleep(LOOK);
        }
    }

    pub(crate) fn succeeded(&self, id: &str) -> Value {
        self.job_when(id, |job| job["status"] == "succeeded")
    }

    pub(crate) fn events(&self, id: &str) -> Vec<Value> {
        let path = format!("/v1/jobs/{id}/events?limit=1000");
        let mut events = self.get(&path);
        match events["data"].take() {
            Value::Array(events) => events,
            other => panic!("{other}"),
        }
    }

    /// The block that this attempt went on with.
    pub(crate) fn resumed_block(&self, id: &str, attempt: u64) -> Option<u64> {
        let events = self.events(id);
        let is_it = |event: &&Value| event["type"] == "resumed" && event["attempt"] == attempt;
        events.iter().find(is_it)?["block"].as_u64()
    }

    /// The value of a counter; 0 where it was never counted.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let (_, text) = self.status_and_text("/metrics");
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.map_or(0.0, |value| value.trim().parse().unwrap())
    }
}

impl From<Server> for Process {
    fn from(server: Server) -> Self {
        server.process
    }
}

/// What `look` finds, as soon as it finds something.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(LOOK);
    }
}

pub(crate) fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

/// Living child processes.
pub(crate) fn children_of(parent: u32) -> Vec<u32> {
    let pids = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    let is_child = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let fields = stat
            .rsplit_once(") ")
            .map(|(_, rest)| rest.to_owned())
            .unwrap_or_default();
        let mut fields = fields.split(' ');
        fields.next() != Some("Z") && fields.next() == Some(parent.to_string().as_str())
    };
    pids.filter(is_child).collect()
}
