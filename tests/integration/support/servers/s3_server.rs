//! A server that speaks S3, on a port of this machine, which can be told to fail.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use secateur::artifacts::{ArtifactPlace, BucketSettings, Credentials};
use secateur::config::{BucketArgs, HiddenText, KeyArgs};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

const BUCKET: &str = "artifacts";
const KEY_ID: &str = "AKIATEST";
pub(crate) const SECRET: &str = "not-to-be-printed";

/// What a request meets instead of its answer.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    /// An error with this code.
    Status(StatusCode, &'static str),
    /// A part of the body is read, then the connection is cut.
    Reset,
    /// Half of the answer's body, then the connection is cut.
    Truncated,
    /// The answer's body with one bit changed.
    Corrupt,
    /// The answer under the tag of another content.
    WrongTag,
    /// Nothing for a while, then the answer.
    Slow(Duration),
    /// Nothing at all.
    Silent,
}

/// Which requests meet a fault.
#[derive(Debug, Clone)]
struct Rule {
    method: Method,
    /// In the path or the query.
    part: String,
    fault: Fault,
    times: usize,
}

#[derive(Default)]
struct Shared {
    rules: Mutex<Vec<Rule>>,
}

/// Gone with the value.
pub(crate) struct S3Server {
    address: SocketAddr,
    root: TempDir,
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

type Body = UnsyncBoxBody<Bytes, std::io::Error>;

impl S3Server {
    /// With one empty bucket.
    pub(crate) fn start() -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join(BUCKET)).unwrap();
        let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(root.path()).unwrap());
        builder.set_auth(SimpleAuth::from_single(KEY_ID, SECRET));
        let service = builder.build();
        let shared = Arc::new(Shared::default());
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let address = socket.local_addr().unwrap();
        let context = Arc::clone(&shared);
        runtime.spawn(async move {
            let listener = TcpListener::from_std(socket).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (context, service) = (Arc::clone(&context), service.clone());
                tokio::spawn(async move {
                    let answer = service_fn(|request| {
                        answer(Arc::clone(&context), service.clone(), request)
                    });
                    let connection = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), answer);
                    // A client that goes away is no failure.
                    drop(connection.await);
                });
            }
        });
        Self {
            address,
            root,
            shared,
            runtime: Some(runtime),
        }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// For the store in this process.
    pub(crate) fn settings(&self) -> BucketSettings {
        BucketSettings {
            endpoint: Some(self.endpoint()),
            region: "eu-central-1".to_owned(),
            path_style: true,
            credentials: Some(Credentials {
                access_key_id: KEY_ID.to_owned(),
                secret_access_key: SECRET.to_owned(),
                session_token: None,
            }),
            redirect: true,
        }
    }

    pub(crate) fn place() -> ArtifactPlace {
        format!("s3://{BUCKET}/some/prefix").parse().unwrap()
    }

    /// For a server in this process.
    pub(crate) fn arguments(&self) -> BucketArgs {
        let secret = |text: &str| text.parse::<HiddenText>().ok();
        BucketArgs {
            endpoint: Some(self.endpoint()),
            keys: KeyArgs {
                access_key_id: secret(KEY_ID),
                secret_access_key: secret(SECRET),
                session_token: None,
            },
            ..BucketArgs::default()
        }
    }

    /// For a process.
    pub(crate) fn environment(&self) -> [(&'static str, String); 5] {
        [
            ("SECATEUR_ARTIFACTS", Self::place().to_string()),
            ("SECATEUR_S3_ENDPOINT", self.endpoint()),
            ("SECATEUR_S3_REGION", "eu-central-1".to_owned()),
            ("AWS_ACCESS_KEY_ID", KEY_ID.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET.to_owned()),
        ]
    }

    /// The next `times` requests of this method with `part` in path or query meet the fault.
    pub(crate) fn fail(&self, method: Method, part: &str, fault: Fault, times: usize) {
        self.shared.rules.lock().unwrap().push(Rule {
            method,
            part: part.to_owned(),
            fault,
            times,
        });
    }

    /// Nothing fails any more.
    pub(crate) fn heal(&self) {
        self.shared.rules.lock().unwrap().clear();
    }

    /// Faults that nobody has met yet.
    pub(crate) fn unmet(&self) -> usize {
        let rules = self.shared.rules.lock().unwrap();
        rules.iter().map(|rule| rule.times).sum()
    }

    /// The keys of all objects, without the prefix.
    pub(crate) fn objects(&self) -> Vec<String> {
        let top = self.directory();
        let mut found = Vec::new();
        let mut folders = vec![top.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let key = path.strip_prefix(&top).unwrap().to_str().unwrap();
                    found.push(key.to_owned());
                }
            }
        }
        found.sort();
        found
    }

    /// Where the objects lie as files.
    pub(crate) fn directory(&self) -> PathBuf {
        self.root.path().join(BUCKET).join("some/prefix")
    }

    /// Parts of uploads that have not ended.
    pub(crate) fn parts(&self) -> usize {
        let entries = std::fs::read_dir(self.root.path()).unwrap();
        let is_part = |path: &Path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.starts_with(".upload_id-")
        };
        entries
            .filter(|entry| is_part(&entry.as_ref().unwrap().path()))
            .count()
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Tests drop it on threads that may not block.
            runtime.shutdown_background();
        }
    }
}

impl Shared {
    fn fault(&self, method: &Method, target: &str) -> Option<Fault> {
        let mut rules = self.rules.lock().unwrap();
        let rule = rules
            .iter_mut()
            .find(|rule| rule.times > 0 && rule.method == method && target.contains(&rule.part))?;
        rule.times -= 1;
        Some(rule.fault)
    }
}

async fn answer(
    shared: Arc<Shared>,
    service: S3Service,
    mut request: Request<Incoming>,
) -> std::io::Result<Response<Body>> {
    let cut = || std::io::Error::other("cut");
    let target = request.uri().to_string();
    let fault = shared.fault(request.method(), &target);
    match fault {
        Some(Fault::Status(status, code)) => {
            let body = format!(
                "<Error><Code>{code}</Code><AWSAccessKeyId>{KEY_ID}</AWSAccessKeyId></Error>"
            );
            // Unread, the body would end the connection before the answer is there.
            drop(request.body_mut().collect().await);
            return Ok(Response::builder()
                .status(status)
                .body(full(body.into()))
                .unwrap());
        }
        Some(Fault::Reset) => {
            drop(request.body_mut().frame().await);
            return Err(cut());
        }
        Some(Fault::Slow(wait)) => tokio::time::sleep(wait).await,
        Some(Fault::Silent) => std::future::pending().await,
        Some(Fault::Truncated | Fault::Corrupt | Fault::WrongTag) | None => {}
    }
    let response = hyper::service::Service::call(&service, request);
    let (mut parts, body) = response.await.map_err(std::io::Error::other)?.into_parts();
    let body = body
        .collect()
        .await
        .map_err(std::io::Error::other)?
        .to_bytes();
    let body = match fault {
        Some(Fault::Truncated) => {
            let half = body.slice(..body.len() / 2);
            parts.headers.insert("content-length", body.len().into());
            let frames = [Ok(Frame::data(half)), Err(cut())];
            StreamBody::new(futures::stream::iter(frames)).boxed_unsync()
        }
        Some(Fault::Corrupt) => {
            let mut bytes = body.to_vec();
            bytes[0] ^= 1;
            full(bytes.into())
        }
        _ => full(body),
    };
    if matches!(fault, Some(Fault::WrongTag)) {
        let tag = "\"00000000000000000000000000000000\"";
        parts.headers.insert("etag", tag.parse().unwrap());
    }
    Ok(Response::from_parts(parts, body))
}

fn full(bytes: Bytes) -> Body {
    Full::new(bytes)
        .map_err(|never| match never {})
        .boxed_unsync()
}
