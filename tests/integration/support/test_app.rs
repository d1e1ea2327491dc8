//! The whole service in the test's own process: real router, real listener, real database, a stub for the child.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Method, RequestBuilder, StatusCode};
use secateur::app::{self, RunningApp};
use secateur::clock::{Clock, SystemClock};
use secateur::config::{
    ListenArgs, RequestLimits, ServerConfig, StorageArgs, WebhookArgs, WorkerArgs,
};
use secateur::domain::job::Publication;
use secateur::domain::job::attempt_end::AttemptEnd;
use secateur::domain::job::scheduling::DeviceKind;
use secateur::domain::report::manifest::EvaluationReport;
use secateur::domain::report::manifest::{JobReport, Manifest};
use secateur::domain::worker::Device;
use secateur::domain::{HubReach, JobId};
use secateur::store::{self, Claim, DatabaseUrl, Lease, Store, Time};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::servers::s3_server::S3Server;

/// Far more than anything here takes, so that a test that hangs fails.
const PATIENCE: Duration = Duration::from_mins(3);

/// A server and a client of it.
pub(crate) struct TestApp {
    app: Option<RunningApp>,
    client: reqwest::Client,
    url: String,
    home: Arc<TempDir>,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .unwrap_or_else(|| panic!("no {name} in {self:?}"))
            .to_str()
            .unwrap()
    }
}

/// What a server is started with: an empty directory, any free port, the stub child, and everything in a hurry.
pub(crate) fn config(home: &Path) -> ServerConfig {
    let child =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/integration/support/stub/child.sh");
    let models_dir = home.join("models");
    write_stub_models(&models_dir);
    let data_dir = home.join("data");
    write_data_sets(&data_dir);
    ServerConfig {
        storage: StorageArgs {
            home: home.to_owned(),
            models_dir: Some(models_dir),
            data_dir: Some(data_dir),
            hub: Some(HubReach::Offline {
                cache_dir: home.join("hub-cache"),
            }),
            ..StorageArgs::default()
        },
        worker: WorkerArgs {
            heartbeat_seconds: Duration::from_millis(100),
            sweep_seconds: Duration::from_millis(100),
            retry_seconds: Duration::from_millis(10),
            program: Some(child),
            ..WorkerArgs::default()
        },
        listen: ListenArgs {
            listen: "127.0.0.1:0".parse().unwrap(),
            request_limits: RequestLimits {
                request: PATIENCE,
                ..RequestLimits::default()
            },
            ..ListenArgs::default()
        },
        webhooks: WebhookArgs::default(),
    }
}

/// Models that only tell the stub child what to do.
fn write_stub_models(models_dir: &Path) {
    const NAMES: &[&str] = &[
        "a",
        "b",
        "m",
        "chatty",
        "crash",
        "confused",
        "crash-once",
        "full",
        "hang",
        "hang-once",
        "liar",
        "noisy",
        "pause",
        "resolve",
        "refuse",
        "silent",
        "succeed",
    ];
    for name in NAMES {
        let dir = models_dir.join(name);
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::copy(
            Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo/config.json"),
            dir.join("config.json"),
        )
        .unwrap();
    }
}

/// The data sets that a body names when it leaves them out, and files that are of no use.
fn write_data_sets(data_dir: &Path) {
    let files: [(&str, &[u8]); 5] = [
        ("c4/en_train.jsonl", b"{\"text\": \"a few words\"}\n"),
        ("wikitext2/wiki.test.raw", b" a few words \n"),
        ("short.txt", b"a few words"),
        ("binary.txt", &[0xff, 0xfe, 0x00]),
        ("broken.jsonl", b"{\"text\": 1}\n"),
    ];
    for (name, content) in files {
        let path = data_dir.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
}

impl TestApp {
    /// A default installation: no models and no data sets but the bundled ones.
    pub(crate) async fn bare() -> Self {
        Self::start(new_home(), Arc::new(SystemClock), |config| {
            config.listen.no_worker = true;
            config.storage.models_dir = None;
            config.storage.data_dir = None;
        })
        .await
    }

    /// API and worker without any data sets of its own, and this program as the child.
    pub(crate) async fn without_data(program: PathBuf) -> Self {
        Self::start(new_home(), Arc::new(SystemClock), |config| {
            config.storage.data_dir = None;
            config.storage.hub = Some(HubReach::Online);
            // The child alone knows the hub of the test.
            config.listen.hub_check_seconds = Duration::ZERO;
            config.worker.program = Some(program);
        })
        .await
    }

    /// API, worker and the real child, with models that `write_models` puts into the models directory.
    pub(crate) async fn real(write_models: impl FnOnce(&Path)) -> Self {
        let home = new_home();
        write_models(&home.path().join("models"));
        Self::start(home, Arc::new(SystemClock), |config| {
            config.worker.program = Some(env!("CARGO_BIN_EXE_secateur").into());
        })
        .await
    }

    /// The API alone: jobs stay queued.
    pub(crate) async fn api() -> Self {
        Self::start(new_home(), Arc::new(SystemClock), |config| {
            config.listen.no_worker = true;
        })
        .await
    }

    /// The API alone, at a time that the test moves.
    pub(crate) async fn api_at(clock: Arc<dyn Clock>) -> Self {
        Self::start(new_home(), clock, |config| config.listen.no_worker = true).await
    }

    /// API and worker.
    pub(crate) async fn with_worker() -> Self {
        Self::at(new_home()).await
    }

    /// API and worker with the artifacts in a bucket.
    pub(crate) async fn with_bucket(
        server: &S3Server,
        adjust: impl FnOnce(&mut ServerConfig),
    ) -> Self {
        Self::start(new_home(), Arc::new(SystemClock), |config| {
            config.storage.artifacts = Some(S3Server::place());
            config.storage.bucket = server.arguments();
            adjust(config);
        })
        .await
    }

    /// API and worker on what another server left.
    pub(crate) async fn at(home: Arc<TempDir>) -> Self {
        Self::start(home, Arc::new(SystemClock), |_| {}).await
    }

    /// The API alone, with other limits.
    pub(crate) async fn api_with(adjust: impl FnOnce(&mut ListenArgs)) -> Self {
        Self::start(new_home(), Arc::new(SystemClock), |config| {
            config.listen.no_worker = true;
            adjust(&mut config.listen);
        })
        .await
    }

    /// API and worker, as `adjust` leaves the configuration.
    pub(crate) async fn start(
        home: Arc<TempDir>,
        clock: Arc<dyn Clock>,
        adjust: impl FnOnce(&mut ServerConfig),
    ) -> Self {
        let mut config = config(home.path());
        adjust(&mut config);
        let app = app::start_with_clock(config, clock).await.unwrap();
        let url = format!("http://{}", app.addr);
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Self {
            app: Some(app),
            client,
            url,
            home,
        }
    }

    /// Stops it as a signal would; its directory stays.
    pub(crate) async fn stop(mut self) -> Arc<TempDir> {
        self.app.take().unwrap().shutdown().await.unwrap();
        Arc::clone(&self.home)
    }

    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// Where the server listens.
    pub(crate) fn address(&self) -> String {
        self.url["http://".len()..].to_owned()
    }

    pub(crate) fn scratch(&self, id: &str) -> PathBuf {
        self.home().join("scratch").join(id)
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url))
    }

    pub(crate) async fn send(&self, request: RequestBuilder) -> Answer {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        Answer {
            status,
            headers,
            body: response.bytes().await.unwrap().to_vec(),
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request(Method::POST, path).json(body)).await
    }

    /// Submits a job whose child does what `model` says; gives its id.
    pub(crate) async fn submit(&self, model: &str) -> String {
        let model = json!({"source": "local", "id": model});
        self.accept(&json!({"model": model, "sparsity": 0.5})).await
    }

    /// Submits an evaluation of `model`; gives its id.
    pub(crate) async fn submit_evaluation(&self, model: &Value) -> String {
        let body = json!({"type": "evaluate", "model": model});
        self.accept(&body).await
    }

    async fn accept(&self, body: &Value) -> String {
        let answer = self.post("/v1/jobs", body).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
        answer.json()["id"].as_str().unwrap().to_owned()
    }

    /// The job, as soon as it is as wanted.
    pub(crate) async fn job_when(&self, id: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let path = format!("/v1/jobs/{id}");
        let mut last = Value::Null;
        let found = tokio::time::timeout(PATIENCE, async {
            loop {
                last = self.get(&path).await.json();
                if wanted(&last) {
                    break;
                }
                // Leaves the processor to the child that is waited for.
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        let outcome = found.await;
        assert!(outcome.is_ok(), "never became as wanted: {last}");
        last
    }

    /// The job, as soon as it has this status.
    pub(crate) async fn job_with_status(&self, id: &str, status: &str) -> Value {
        self.job_when(id, |job| job["status"] == status).await
    }

    /// The names of the job's events, in order.
    /// Returns when the job is not there any more.
    pub(crate) async fn until_gone(&self, id: &str) {
        let path = format!("/v1/jobs/{id}");
        let gone = async {
            while self.get(&path).await.status != StatusCode::NOT_FOUND {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, gone).await.unwrap();
    }

    /// The files of a deleted job go after its row.
    pub(crate) async fn until_removed(&self, path: &Path) {
        let removed = async {
            while path.try_exists().unwrap() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, removed).await.unwrap();
    }

    pub(crate) async fn events(&self, id: &str) -> Vec<String> {
        let events = self.get(&format!("/v1/jobs/{id}/events")).await.json();
        let names = events["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|event| event["type"].as_str().unwrap().to_owned());
        names.collect()
    }

    /// The server's database, through a second door.
    pub(crate) async fn store(&self) -> Arc<dyn Store> {
        let url = DatabaseUrl::file(&self.home().join("secateur.db"));
        store::open(&url, Time::Database).await.unwrap()
    }

    /// Takes the oldest queued job for a worker that does not exist.
    pub(crate) async fn claim(&self) -> Lease {
        let claim = Claim {
            free_disk_bytes: None,
            worker_id: "worker_elsewhere".to_owned(),
            device: cpu(),
            lease: Duration::from_mins(5),
        };
        Lease::of(
            &self
                .store()
                .await
                .claim_next_job(&claim)
                .await
                .unwrap()
                .unwrap(),
        )
        .unwrap()
    }

    /// Ends the attempt of [`TestApp::claim`].
    pub(crate) async fn finish(&self, lease: &Lease, ending: &AttemptEnd) {
        assert!(
            self.store()
                .await
                .finish(lease, ending, None)
                .await
                .unwrap()
                .is_some()
        );
    }
}

/// A device that every job fits.
pub(crate) fn cpu() -> Device {
    Device {
        name: "cpu".to_owned(),
        kind: DeviceKind::Cpu,
        memory_bytes: None,
    }
}

/// A directory for one server.
pub(crate) fn new_home() -> Arc<TempDir> {
    Arc::new(tempfile::tempdir().unwrap())
}

/// The manifest that the stub child writes.
pub(crate) fn manifest() -> Manifest {
    serde_json::from_str(include_str!("stub/manifest.json")).unwrap()
}

/// The report of an evaluation that the stub child writes.
pub(crate) fn evaluation_report() -> EvaluationReport {
    serde_json::from_str(include_str!("stub/evaluation.json")).unwrap()
}

/// What a succeeded attempt leaves, without files behind it.
pub(crate) fn publication(attempt: u32) -> Publication {
    let manifest = manifest();
    Publication {
        attempt,
        files: manifest.files.clone(),
        report: JobReport::Prune(Box::new(manifest)),
    }
}

/// What a succeeded attempt at an evaluation leaves, without files behind it.
pub(crate) fn evaluation(attempt: u32) -> Publication {
    Publication {
        attempt,
        report: JobReport::Evaluate(Box::new(evaluation_report())),
        files: Vec::new(),
    }
}

/// The id within a job's JSON.
pub(crate) fn job_id(text: &str) -> JobId {
    text.parse().unwrap()
}
