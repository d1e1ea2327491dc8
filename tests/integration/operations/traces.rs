//! Traces as a collector gets them.

use std::sync::{Arc, Condvar, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind};
use prost::Message as _;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use crate::support::database::Database;
use crate::support::processes::{PATIENCE, Site};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CLIENT_SPAN: &str = "b7ad6b7169203331";

type Received = Arc<(Mutex<Vec<Span>>, Condvar)>;

/// A real server on this machine that takes what is exported.
struct Collector {
    url: String,
    received: Received,
    _runtime: Runtime,
}

impl Collector {
    fn start() -> Self {
        let runtime = Runtime::new().unwrap();
        let received = Received::default();
        let router = Router::new()
            .route("/v1/traces", post(take))
            .with_state(Arc::clone(&received));
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        runtime.spawn(async { axum::serve(listener, router).await });
        Self {
            url,
            received,
            _runtime: runtime,
        }
    }

    fn span(&self, wanted: impl Fn(&Span) -> bool) -> Span {
        let (spans, arrived) = &*self.received;
        let spans = spans.lock().unwrap();
        let is_missing = |spans: &mut Vec<Span>| !spans.iter().any(&wanted);
        let (spans, _) = arrived
            .wait_timeout_while(spans, PATIENCE, is_missing)
            .unwrap();
        let found = spans.iter().find(|span| wanted(span));
        found.unwrap_or_else(|| panic!("{spans:#?}")).clone()
    }
}

async fn take(State(received): State<Received>, body: Bytes) {
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    let scopes = request.resource_spans.into_iter();
    let scopes = scopes.flat_map(|resource| resource.scope_spans);
    let (spans, arrived) = &*received;
    let new = scopes.flat_map(|scope| scope.spans);
    spans.lock().unwrap().extend(new);
    arrived.notify_all();
}

fn attribute(span: &Span, key: &str) -> String {
    let found = span.attributes.iter().find(|found| found.key == key);
    let found = found.unwrap_or_else(|| panic!("no {key} in {span:?}"));
    format!("{:?}", found.value.as_ref().unwrap().value)
}

#[test]
fn a_request_continues_its_clients_trace_and_the_attempt_links_to_it() {
    let collector = Collector::start();
    let (dir, database) = (tempfile::tempdir().unwrap(), Database::sqlite());
    let site = Site::new(dir.path(), &database)
        .with("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url)
        // They are sent when the server stops.
        .with("OTEL_BSP_SCHEDULE_DELAY", "3600000");
    let server = site.server();
    let body = json!({
        "model": "demo", "sparsity": 0.5, "calibration": {"dataset": "demo", "n_samples": 2, "seq_len": 32},
        "evaluation": {"perplexity": ["demo"], "seq_len": 32, "windows": 1},
    });
    let request = reqwest::blocking::Client::builder().no_proxy().build();
    let request = request.unwrap().post(server.url("/v1/jobs")).json(&body);
    let traceparent = format!("00-{TRACE}-{CLIENT_SPAN}-01");
    let answer = request.header("traceparent", traceparent).send().unwrap();
    let job: serde_json::Value = answer.json().unwrap();
    let id = job["id"].as_str().unwrap();
    server.succeeded(id);
    server.process.terminate();

    let submission = collector.span(|span| span.name == "POST /v1/jobs");
    assert_eq!(hex::encode(&submission.trace_id), TRACE);
    assert_eq!(hex::encode(&submission.parent_span_id), CLIENT_SPAN);
    assert_eq!(submission.kind, SpanKind::Server as i32);
    let status = attribute(&submission, "http.response.status_code");
    assert!(status.contains("202"), "{status}");

    let attempt = collector.span(|span| span.name == "attempt");
    assert_ne!(attempt.trace_id, submission.trace_id);
    let origins: Vec<_> = attempt.links.iter().map(|link| &link.span_id).collect();
    assert_eq!(origins, [&submission.span_id]);
    assert!(attribute(&attempt, "job.id").contains(id));

    let lines = std::fs::read_dir(dir.path()).unwrap().filter_map(|entry| {
        let path = entry.unwrap().path();
        let is_log = path.extension().is_some_and(|extension| extension == "log");
        is_log.then(|| std::fs::read_to_string(path).unwrap())
    });
    let log = lines.collect::<String>();
    assert!(log.contains(TRACE), "the log names the trace: {log}");
}
