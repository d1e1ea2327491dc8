//! The logs as server-sent events.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use secateur::domain::job::attempt_end::AttemptEnd;
use secateur::domain::job::progress::{Overall, Phase, Step};
use secateur::store::Report;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::TcpStream;

use crate::support::test_app::{TestApp, publication};

/// Far more than anything here takes, so that a test that hangs fails.
const PATIENCE: Duration = Duration::from_mins(1);

/// What `EventSource` would make of a stream.
struct Events {
    lines: Lines<BufReader<TcpStream>>,
    head: String,
}

#[derive(Debug, Default, PartialEq)]
struct Message {
    id: Option<u64>,
    event: String,
    data: Value,
    retry: Option<u64>,
    comment: bool,
}

impl Events {
    async fn open(app: &TestApp, path: &str, last_event_id: Option<&str>) -> Self {
        let mut stream = TcpStream::connect(app.address()).await.unwrap();
        let header = last_event_id.map(|id| format!("Last-Event-ID: {id}\r\n"));
        let header = header.unwrap_or_default();
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{header}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut lines = BufReader::new(stream).lines();
        let mut head = String::new();
        while let Some(line) = lines
            .next_line()
            .await
            .unwrap()
            .filter(|line| !line.is_empty())
        {
            head.push_str(&line.to_ascii_lowercase());
            head.push('\n');
        }
        Self { lines, head }
    }

    /// The next message, comments and openings included; `None` at the end of the stream.
    async fn next(&mut self) -> Option<Message> {
        let reading = async {
            let mut message = Message::default();
            loop {
                let line = self.lines.next_line().await.unwrap()?;
                // The last chunk has no length; what else is no message are the lengths of the others.
                if line == "0" {
                    return None;
                }
                if let Some(id) = line.strip_prefix("id: ") {
                    message.id = Some(id.parse().unwrap());
                } else if let Some(event) = line.strip_prefix("event: ") {
                    event.clone_into(&mut message.event);
                } else if let Some(data) = line.strip_prefix("data: ") {
                    message.data = serde_json::from_str(data).unwrap();
                } else if let Some(retry) = line.strip_prefix("retry: ") {
                    message.retry = Some(retry.parse().unwrap());
                } else if line.starts_with(": ") {
                    message.comment = true;
                } else if line.is_empty() && message != Message::default() {
                    return Some(message);
                }
            }
        };
        tokio::time::timeout(PATIENCE, reading).await.unwrap()
    }

    /// The next one that is neither comment, nor opening, nor progress.
    async fn next_event(&mut self) -> Option<Message> {
        loop {
            let message = self.next().await?;
            if !message.event.is_empty() && message.event != "progress" {
                return Some(message);
            }
        }
    }

    /// The words of all events until the stream ends.
    async fn rest(&mut self) -> Vec<String> {
        let mut words = Vec::new();
        while let Some(message) = self.next_event().await {
            words.push(message.event);
        }
        words
    }
}

fn stream_of(id: &str) -> String {
    format!("/v1/jobs/{id}/events/stream")
}

#[tokio::test]
async fn a_job_is_followed_from_its_beginning_to_its_end() {
    let app = TestApp::api().await;
    let id = app.submit("m").await;
    let mut events = Events::open(&app, &stream_of(&id), None).await;
    assert!(events.head.starts_with("http/1.1 200"), "{}", events.head);
    assert!(events.head.contains("content-type: text/event-stream\n"));
    assert!(events.head.contains("cache-control: no-store\n"));
    assert_eq!(events.next().await.unwrap().retry, Some(2000));
    let queued = events.next_event().await.unwrap();
    assert_eq!((queued.id, queued.event.as_str()), (Some(1), "queued"));
    assert_eq!(
        (&queued.data["seq"], &queued.data["job_id"]),
        (&json!(1), &json!(id))
    );

    let lease = app.claim().await;
    let started = events.next_event().await.unwrap();
    assert_eq!((started.id, started.event.as_str()), (Some(2), "started"));
    assert_eq!(started.data["worker_id"], "worker_elsewhere");
    let ending = AttemptEnd::Succeeded(Box::new(publication(lease.attempt)));
    app.finish(&lease, &ending).await;
    assert_eq!(events.next_event().await.unwrap().event, "succeeded");
    let end = events.next().await.unwrap();
    assert_eq!((end.id, end.event.as_str()), (None, "end"));
    assert_eq!(end.data, json!({"status": "succeeded"}));
    assert_eq!(events.next().await, None, "the server closes the stream");

    let again = Events::open(&app, &stream_of(&id), Some("3")).await;
    assert!(again.head.starts_with("http/1.1 204"), "{}", again.head);
    let mut late = Events::open(&app, &stream_of(&id), Some("1")).await;
    assert_eq!(late.rest().await, ["started", "succeeded", "end"]);
}

#[tokio::test]
async fn progress_comes_between_the_events_and_without_an_id() {
    let app = TestApp::api().await;
    let id = app.submit("m").await;
    let lease = app.claim().await;
    let mut events = Events::open(&app, &stream_of(&id), None).await;
    let store = app.store().await;
    let step = |finished| {
        let step = Step::new("blocks".to_owned(), "blocks", finished, 4);
        let percent = 10.0 * finished as f64;
        let eta_seconds = Some(7);
        Report::Step(
            step,
            Overall {
                percent,
                eta_seconds,
            },
        )
    };
    store
        .report(&lease, &Report::Phase(Phase::Pruning, Overall::default()))
        .await
        .unwrap();
    for finished in [1, 3] {
        store.report(&lease, &step(finished)).await.unwrap();
        let progress = loop {
            let message = events.next().await.unwrap();
            if message.event == "progress"
                && message.data["progress"]["step"]["finished"] == finished
            {
                break message;
            }
        };
        assert_eq!(progress.id, None);
        assert_eq!(progress.data["phase"], "pruning");
        let progress = &progress.data["progress"];
        assert_eq!(progress["step"]["percent"], 25.0 * finished as f64);
        assert_eq!(progress["percent"], 10.0 * finished as f64);
        assert_eq!(progress["eta_seconds"], 7);
    }
    // Whoever comes now is told at once where the job is.
    let mut late = Events::open(&app, &stream_of(&id), Some("3")).await;
    while late.next().await.unwrap().event != "progress" {}
}

#[tokio::test]
async fn all_jobs_are_followed_from_now_on_or_after_a_number() {
    let app = TestApp::api().await;
    let before = app.submit("m").await;
    let mut from_now = Events::open(&app, "/v1/events/stream", None).await;
    // A client that is cut now knows where to go on.
    assert_eq!(from_now.next().await.unwrap().id, Some(1));
    let mut from_the_beginning = Events::open(&app, "/v1/events/stream?after=0", None).await;
    let first = from_the_beginning.next_event().await.unwrap();
    assert_eq!((first.id, &first.data["job_id"]), (Some(1), &json!(before)));

    let after = app.submit("m").await;
    app.post(&format!("/v1/jobs/{before}/cancel"), &json!({}))
        .await;
    for events in [&mut from_now, &mut from_the_beginning] {
        let queued = events.next_event().await.unwrap();
        assert_eq!(
            (queued.id, &queued.data["job_id"]),
            (Some(2), &json!(after))
        );
        let cancelled = events.next_event().await.unwrap();
        assert_eq!(
            (cancelled.id, cancelled.event.as_str()),
            (Some(3), "cancelled")
        );
        assert_eq!(cancelled.data["seq"], 2, "its number within its job");
    }
    let delete = app.request(Method::DELETE, &format!("/v1/jobs/{before}"));
    app.send(delete).await;
    for events in [&mut from_now, &mut from_the_beginning] {
        let deleted = events.next_event().await.unwrap();
        assert_eq!((deleted.id, deleted.event.as_str()), (Some(4), "deleted"));
        assert_eq!(deleted.data["job_id"], before);
        assert_eq!(deleted.data["freed_bytes"], 0, "it left no artifact");
    }
    // The header is newer than the address that the client began with.
    let mut resumed = Events::open(&app, "/v1/events/stream?after=0", Some("2")).await;
    assert_eq!(resumed.next_event().await.unwrap().id, Some(4));
}

#[tokio::test]
async fn a_number_that_never_was_is_told_and_the_stream_goes_on() {
    let app = TestApp::api().await;
    let id = app.submit("m").await;
    let mut all = Events::open(&app, "/v1/events/stream", Some("1000")).await;
    let resync = all.next_event().await.unwrap();
    assert_eq!((resync.id, resync.event.as_str()), (Some(1), "resync"));
    let mut job = Events::open(&app, &stream_of(&id), Some("1000")).await;
    let resync = job.next_event().await.unwrap();
    assert_eq!((resync.id, resync.event.as_str()), (Some(0), "resync"));
    assert_eq!(job.next_event().await.unwrap().event, "queued");

    app.post(&format!("/v1/jobs/{id}/cancel"), &json!({})).await;
    assert_eq!(all.next_event().await.unwrap().event, "cancelled");
    assert_eq!(job.rest().await, ["cancelled", "end"]);
}

#[tokio::test]
async fn an_empty_number_is_as_if_absent_and_a_wrong_one_is_refused() {
    let app = TestApp::api().await;
    let id = app.submit("m").await;
    for path in [stream_of(&id), "/v1/events/stream".to_owned()] {
        let answer = Events::open(&app, &path, Some("")).await;
        assert!(answer.head.starts_with("http/1.1 200"), "{}", answer.head);
        for wrong in ["x", "-1", "1.5", "99999999999999999999"] {
            let answer = Events::open(&app, &path, Some(wrong)).await;
            assert!(
                answer.head.starts_with("http/1.1 400"),
                "{wrong}: {}",
                answer.head
            );
        }
        let answer = app.get(&format!("{path}?after=x")).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        assert_eq!(answer.json()["errors"][0]["parameter"], "after");
        let answer = app.get(&format!("{path}?before=1")).await;
        assert_eq!(answer.json()["errors"][0]["code"], "unknown_parameter");
    }
    let missing = app
        .get(&stream_of("job_019abcde0123789a8bcdef0123456789"))
        .await;
    assert_eq!(missing.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_silent_stream_says_that_it_lives() {
    let app = TestApp::api_with(|listen| {
        listen.request_limits.heartbeat = Duration::from_millis(50);
    })
    .await;
    let mut events = Events::open(&app, "/v1/events/stream", None).await;
    events.next().await.unwrap();
    for _ in 0..3 {
        assert!(events.next().await.unwrap().comment);
    }
}

#[tokio::test]
async fn a_server_that_is_stopped_ends_its_streams_and_says_when_to_come_back() {
    let app = TestApp::api().await;
    let id = app.submit("m").await;
    let mut streams = Vec::new();
    for path in [stream_of(&id), "/v1/events/stream?after=0".to_owned()] {
        let mut events = Events::open(&app, &path, None).await;
        assert_eq!(events.next_event().await.unwrap().event, "queued");
        streams.push(events);
    }
    app.stop().await;
    for mut events in streams {
        assert_eq!(events.next().await.unwrap().retry, Some(5000));
        assert_eq!(events.next().await, None);
    }
}

#[tokio::test]
async fn streams_leave_connections_to_everybody_else() {
    let app = TestApp::api_with(|listen| listen.request_limits.held = 1).await;
    let id = app.submit("m").await;
    let first = Events::open(&app, "/v1/events/stream", None).await;
    assert!(first.head.contains("200 ok"), "{}", first.head);
    let path = format!("/v1/jobs/{id}/events/stream");
    let refused = app.get(&path).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.json()["code"], "unavailable");
    assert_eq!(app.get("/v1/jobs").await.status, StatusCode::OK);
    drop(first);
}
