//! A local server that speaks the part of the hub's API that fetching models and data sets needs, and misbehaves as told.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::header::{AUTHORIZATION, CONTENT_LENGTH, ETAG, RANGE};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use futures::StreamExt;
use secateur::corpora::HubSplit;
use serde_json::Value;
use sha1::Sha1;
use sha2::{Digest, Sha256};

/// The only model.
pub(crate) const MODEL: &str = "org/tiny";
/// The commit that `main` points to.
pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What is wrong with the answers to a file's GET requests; HEAD and the listing stay right.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    /// An error page with this status.
    Status(u16),
    /// An error page that claims to be fine.
    PageWithStatus200,
    /// The connection breaks in the middle.
    Cut,
    /// The right length, another content.
    WrongContent,
    /// Nothing more comes after the first half.
    Silence,
}

#[derive(Clone)]
struct RepoFile {
    content: Bytes,
    is_large: bool,
    listed_bytes: u64,
    is_gated: bool,
    /// Each GET takes one, unless the first is `forever`.
    faults: Vec<Fault>,
    forever: bool,
}

impl RepoFile {
    fn next_fault(&mut self, method: &Method) -> Option<Fault> {
        if method == Method::HEAD || self.faults.is_empty() {
            None
        } else if self.forever {
            Some(self.faults[0])
        } else {
            Some(self.faults.remove(0))
        }
    }
}

#[derive(Default)]
struct Repo {
    files: BTreeMap<String, RepoFile>,
    token: Option<String>,
    /// Whoever asks for a revision waits for ever.
    keeps_waiting: bool,
    /// How many wait so.
    waiting: usize,
    /// What those are answered who ask for a revision, instead of its commit.
    revision_status: Option<StatusCode>,
    /// `METHOD path`, GETs with a range marked as `PROBE`.
    log: Vec<String>,
}

type Shared = Arc<Mutex<Repo>>;

/// The running server. It ends with the test's runtime.
pub(crate) struct MockHub {
    address: SocketAddr,
    repo: Shared,
}

impl MockHub {
    /// Listens on a free port, with an empty repository.
    pub(crate) async fn start() -> Self {
        let repo = Shared::default();
        let routes = Router::new()
            .route(
                "/api/models/{owner}/{name}/revision/{revision}",
                get(revision),
            )
            .route("/api/models/{owner}/{name}/tree/{revision}", get(tree))
            .route("/{owner}/{name}/resolve/{revision}/{*file}", any(resolve))
            .route(
                "/api/datasets/{owner}/{name}/paths-info/{revision}",
                post(paths_info),
            )
            .route(
                "/datasets/{owner}/{name}/resolve/{revision}/{*file}",
                any(resolve_of_dataset),
            )
            .with_state(Arc::clone(&repo));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { address, repo }
    }

    /// Listens, with a complete small model.
    pub(crate) async fn with_model() -> Self {
        let hub = Self::start().await;
        hub.add("config.json", br#"{"architectures": ["LlamaForCausalLM"]}"#);
        hub.add("tokenizer.json", b"{}");
        hub.add("README.md", b"# tiny");
        hub.add_large("model.safetensors", &weights());
        hub
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Adds a file that is kept in git itself.
    pub(crate) fn add(&self, name: &str, content: &[u8]) {
        self.insert(name, content, false);
    }

    /// Adds a file that is kept in large file storage.
    pub(crate) fn add_large(&self, name: &str, content: &[u8]) {
        self.insert(name, content, true);
    }

    /// Adds a file of a data set, in large file storage; gives the name that faults and downloads are counted by.
    pub(crate) fn add_of_dataset(&self, split: &HubSplit, file: &str, content: &[u8]) -> String {
        let key = key_of_dataset(split.repo, split.revision, file);
        self.insert(&key, content, true);
        key
    }

    fn insert(&self, name: &str, content: &[u8], is_large: bool) {
        let file = RepoFile {
            content: Bytes::copy_from_slice(content),
            is_large,
            listed_bytes: content.len() as u64,
            is_gated: false,
            faults: Vec::new(),
            forever: false,
        };
        self.repo().files.insert(name.to_owned(), file);
    }

    pub(crate) fn remove(&self, name: &str) {
        self.repo().files.remove(name).unwrap();
    }

    /// The first GETs of the file go wrong, in this order.
    pub(crate) fn fail_first(&self, name: &str, faults: &[Fault]) {
        self.file(name, |file| file.faults = faults.to_vec());
    }

    /// Every GET of the file goes wrong.
    pub(crate) fn fail_always(&self, name: &str, fault: Fault) {
        self.file(name, |file| {
            file.faults = vec![fault];
            file.forever = true;
        });
    }

    /// The listing gives the file another length than it has.
    pub(crate) fn list_length(&self, name: &str, listed_bytes: u64) {
        self.file(name, |file| file.listed_bytes = listed_bytes);
    }

    /// Nobody may read the file, though all may see it listed.
    pub(crate) fn gate(&self, name: &str) {
        self.file(name, |file| file.is_gated = true);
    }

    /// Whether those who ask for a revision from now on get no answer, ever.
    pub(crate) fn keep_waiting(&self, keeps_waiting: bool) {
        self.repo().keeps_waiting = keeps_waiting;
    }

    /// How many requests came that get no answer, ever.
    pub(crate) fn waiting(&self) -> usize {
        self.repo().waiting
    }

    /// Those who ask for a revision from now on are answered with this status; as usual without one.
    pub(crate) fn answer_revisions(&self, status: Option<StatusCode>) {
        self.repo().revision_status = status;
    }

    /// Only this token opens the repository.
    pub(crate) fn require_token(&self, token: &str) {
        self.repo().token = Some(token.to_owned());
    }

    fn file(&self, name: &str, change: impl FnOnce(&mut RepoFile)) {
        change(self.repo().files.get_mut(name).unwrap());
    }

    /// How often the whole file was asked for.
    pub(crate) fn downloads(&self, name: &str) -> usize {
        let suffix = format!("/{name}");
        let repo = self.repo();
        repo.log
            .iter()
            .filter(|line| line.starts_with("GET ") && line.ends_with(&suffix))
            .count()
    }

    /// How often this was asked, as the log has it.
    pub(crate) fn count(&self, line: &str) -> usize {
        self.repo()
            .log
            .iter()
            .filter(|logged| *logged == line)
            .count()
    }

    /// How many requests of any kind came.
    pub(crate) fn requests(&self) -> usize {
        self.repo().log.len()
    }

    fn repo(&self) -> MutexGuard<'_, Repo> {
        self.repo.lock().unwrap()
    }
}

/// The content of the model's weights: long enough for several packets.
pub(crate) fn weights() -> Vec<u8> {
    (0..600_000_u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect()
}

/// What a file of a data set is kept under, beside those of the model.
fn key_of_dataset(repo: &str, revision: &str, file: &str) -> String {
    format!("{DATASETS}{repo}@{revision}/{file}")
}

const DATASETS: &str = "datasets/";

type Params = Path<HashMap<String, String>>;

/// Notes the request; gives the answer if the real hub would turn it away.
fn turn_away(
    repo: &mut Repo,
    line: String,
    params: &Params,
    headers: &HeaderMap,
) -> Option<Response> {
    repo.log.push(line);
    let sent = headers
        .get(AUTHORIZATION)
        .map_or("", |value| value.to_str().unwrap());
    let refuse = |status: StatusCode, code: &'static str, text: &str| {
        // A careless server may send back what it was sent.
        let body = serde_json::json!({ "error": format!("{text} {sent}") }).to_string();
        Some(
            (
                status,
                [("x-error-code", code), ("x-error-message", sent)],
                body,
            )
                .into_response(),
        )
    };
    if repo
        .token
        .as_ref()
        .is_some_and(|token| sent != format!("Bearer {token}"))
    {
        return refuse(
            StatusCode::UNAUTHORIZED,
            "GatedRepo",
            "access is restricted",
        );
    }
    if format!("{}/{}", params["owner"], params["name"]) != MODEL {
        // What the hub tells callers without a token, so that they can't learn which private models exist.
        return refuse(
            StatusCode::UNAUTHORIZED,
            "RepoNotFound",
            "invalid username or password",
        );
    }
    if !["main", "feature/x", COMMIT].contains(&params["revision"].as_str()) {
        return refuse(StatusCode::NOT_FOUND, "RevisionNotFound", "invalid rev id");
    }
    None
}

async fn revision(State(repo): State<Shared>, params: Params, headers: HeaderMap) -> Response {
    let line = format!("GET revision/{}", params["revision"]);
    let (keeps_waiting, status) = {
        let mut repo = repo.lock().unwrap();
        repo.waiting += usize::from(repo.keeps_waiting);
        (repo.keeps_waiting, repo.revision_status)
    };
    if keeps_waiting {
        std::future::pending::<()>().await;
    }
    if let Some(status) = status {
        return status.into_response();
    }
    turn_away(&mut repo.lock().unwrap(), line, &params, &headers).unwrap_or_else(|| {
        axum::Json(serde_json::json!({ "id": MODEL, "sha": COMMIT })).into_response()
    })
}

async fn tree(State(repo): State<Shared>, params: Params, headers: HeaderMap) -> Response {
    let mut repo = repo.lock().unwrap();
    let line = format!("GET tree/{}", params["revision"]);
    if let Some(refusal) = turn_away(&mut repo, line, &params, &headers) {
        return refusal;
    }
    let folder = serde_json::json!({ "type": "directory", "oid": "0".repeat(40), "path": "onnx" });
    let of_model = repo
        .files
        .iter()
        .filter(|(key, _)| !key.starts_with(DATASETS));
    let files = of_model.map(|(path, file)| entry(path, file));
    axum::Json(files.chain([folder]).collect::<Vec<_>>()).into_response()
}

fn entry(path: &str, file: &RepoFile) -> Value {
    let mut entry = serde_json::json!({
        "type": "file", "path": path, "size": file.listed_bytes, "oid": git_id(&file.content),
    });
    if file.is_large {
        entry["oid"] = git_id(b"pointer").into();
        entry["lfs"] = serde_json::json!({
            "oid": sha256(&file.content), "size": file.listed_bytes, "pointerSize": 134,
        });
    }
    entry
}

/// The listing of the files that the body names; of others it says nothing.
async fn paths_info(
    State(repo): State<Shared>,
    params: Params,
    axum::Json(body): axum::Json<Value>,
) -> Response {
    let mut repo = repo.lock().unwrap();
    repo.log
        .push(format!("POST paths-info/{}", params["revision"]));
    let dataset = format!("{}/{}", params["owner"], params["name"]);
    let prefix = key_of_dataset(&dataset, &params["revision"], "");
    if !repo.files.keys().any(|key| key.starts_with(&prefix)) {
        return (StatusCode::NOT_FOUND, [("x-error-code", "RepoNotFound")]).into_response();
    }
    let asked = body["paths"].as_array().unwrap().iter();
    let listed = asked.filter_map(|path| {
        let path = path.as_str().unwrap();
        Some(entry(path, repo.files.get(&format!("{prefix}{path}"))?))
    });
    axum::Json(listed.collect::<Vec<_>>()).into_response()
}

async fn resolve(
    State(repo): State<Shared>,
    method: Method,
    params: Params,
    headers: HeaderMap,
) -> Response {
    let mut repo = repo.lock().unwrap();
    let verb = verb(&method, &headers);
    let line = format!("{verb} resolve/{}", params["file"]);
    if let Some(refusal) = turn_away(&mut repo, line, &params, &headers) {
        return refusal;
    }
    send(&mut repo, &method, &params["file"], COMMIT)
}

async fn resolve_of_dataset(
    State(repo): State<Shared>,
    method: Method,
    params: Params,
    headers: HeaderMap,
) -> Response {
    let mut repo = repo.lock().unwrap();
    let dataset = format!("{}/{}", params["owner"], params["name"]);
    let key = key_of_dataset(&dataset, &params["revision"], &params["file"]);
    let verb = verb(&method, &headers);
    repo.log.push(format!("{verb} resolve/{key}"));
    send(&mut repo, &method, &key, &params["revision"])
}

fn verb<'a>(method: &'a Method, headers: &HeaderMap) -> &'a str {
    if headers.contains_key(RANGE) {
        "PROBE"
    } else {
        method.as_str()
    }
}

fn send(repo: &mut Repo, method: &Method, key: &str, commit: &str) -> Response {
    let Some(file) = repo.files.get_mut(key) else {
        return (StatusCode::NOT_FOUND, [("x-error-code", "EntryNotFound")]).into_response();
    };
    if file.is_gated {
        return (StatusCode::FORBIDDEN, [("x-error-code", "GatedRepo")]).into_response();
    }
    let mut response = Response::builder()
        .header("x-repo-commit", commit)
        .header(CONTENT_LENGTH, file.content.len());
    if file.is_large {
        response = response
            .header("x-linked-etag", format!("\"{}\"", sha256(&file.content)))
            .header("x-linked-size", file.content.len())
            .header(ETAG, "\"of-the-storage\"");
    } else {
        response = response.header(ETAG, format!("\"{}\"", git_id(&file.content)));
    }
    let body = match file.next_fault(method) {
        Some(Fault::Status(status)) => {
            let status = StatusCode::from_u16(status).unwrap();
            return (status, "<html>no</html>").into_response();
        }
        Some(Fault::PageWithStatus200) => return "<html>please log in</html>".into_response(),
        fault => body(&file.content, fault),
    };
    response.body(body).unwrap()
}

/// A file's content, damaged by the fault.
fn body(content: &Bytes, fault: Option<Fault>) -> Body {
    let first_half = futures::stream::iter([Ok(content.slice(..content.len() / 2))]);
    match fault {
        Some(Fault::WrongContent) => {
            let mut wrong = content.to_vec();
            wrong[0] ^= 1;
            Body::from(wrong)
        }
        Some(Fault::Cut) => {
            // Lets the first half go out, so that the connection breaks within the body.
            let cut = futures::stream::once(async {
                tokio::task::yield_now().await;
                Err(std::io::Error::other("cut"))
            });
            Body::from_stream(first_half.chain(cut))
        }
        Some(Fault::Silence) => Body::from_stream(
            first_half.chain(futures::stream::pending::<std::io::Result<Bytes>>()),
        ),
        Some(Fault::Status(_) | Fault::PageWithStatus200) | None => Body::from(content.clone()),
    }
}

fn git_id(content: &[u8]) -> String {
    let header = format!("blob {}\0", content.len());
    hex::encode(
        Sha1::new()
            .chain_update(header)
            .chain_update(content)
            .finalize(),
    )
}

pub(crate) fn sha256(content: &[u8]) -> String {
    hex::encode(Sha256::digest(content))
}
