//! Somebody who is told of jobs: a real server on this machine, which answers as its script says.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde_json::Value;
use tokio::runtime::Runtime;

/// Far more than anything here takes, so that a test that hangs fails.
const PATIENCE: Duration = Duration::from_mins(3);

/// What it answers.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Behaviour {
    Status(u16),
    /// To itself, where it would be seen.
    Redirect,
    /// Nothing, for as long as the sender waits.
    Hang,
}

/// A request that came.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Message {
    pub(crate) fn id(&self) -> &str {
        self.header("webhook-id")
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// As a receiver checks it that uses the reference library.
    pub(crate) fn is_signed_by(&self, secret: &str) -> bool {
        let webhook = standardwebhooks::Webhook::new(secret).unwrap();
        webhook.verify(self.body.as_bytes(), &self.headers).is_ok()
    }
}

#[derive(Default)]
struct Shared {
    received: Mutex<Vec<Message>>,
    arrived: Condvar,
    script: Mutex<VecDeque<Behaviour>>,
}

/// The server; gone with the value.
pub(crate) struct Receiver {
    url: String,
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

impl Receiver {
    /// Answers these one after the other, and 204 from then on.
    pub(crate) fn start(script: &[Behaviour]) -> Self {
        let shared = Arc::new(Shared {
            script: Mutex::new(script.iter().copied().collect()),
            ..Shared::default()
        });
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let routes = Router::new()
            .fallback(receive)
            .with_state(Arc::clone(&shared));
        let runtime = Runtime::new().unwrap();
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            axum::serve(listener, routes).await.unwrap();
        });
        Self {
            url,
            shared,
            runtime: Some(runtime),
        }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// What has come so far.
    pub(crate) fn received(&self) -> Vec<Message> {
        self.shared.received.lock().unwrap().clone()
    }

    /// The same, once there are so many.
    pub(crate) fn wait_for(&self, count: usize) -> Vec<Message> {
        wait_for(&self.shared, count)
    }

    /// The same without holding up the thread.
    pub(crate) async fn when(&self, count: usize) -> Vec<Message> {
        let shared = Arc::clone(&self.shared);
        let waiting = tokio::task::spawn_blocking(move || wait_for(&shared, count));
        waiting.await.unwrap()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn wait_for(shared: &Shared, count: usize) -> Vec<Message> {
    let received = shared.received.lock().unwrap();
    let waited = shared
        .arrived
        .wait_timeout_while(received, PATIENCE, |received| received.len() < count);
    let (received, _) = waited.unwrap();
    assert!(received.len() >= count, "{count} expected: {received:?}");
    received.clone()
}

async fn receive(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: String) -> Response {
    let behaviour = shared.script.lock().unwrap().pop_front();
    shared
        .received
        .lock()
        .unwrap()
        .push(Message { headers, body });
    shared.arrived.notify_all();
    match behaviour.unwrap_or(Behaviour::Status(204)) {
        Behaviour::Status(status) => StatusCode::from_u16(status).unwrap().into_response(),
        Behaviour::Redirect => {
            (StatusCode::FOUND, [(header::LOCATION, "/elsewhere")]).into_response()
        }
        Behaviour::Hang => std::future::pending().await,
    }
}
