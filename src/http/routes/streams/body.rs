//! The body of a stream of events.
//!
//! The next message is made when the last one was sent: a client that does not read costs its connection's buffers, and
//! the server cuts it like any other that stalls.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures::stream;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use super::message;
use crate::http::HttpState;
use crate::instruments;
use crate::jobs::{Following, LogItem};

/// Milliseconds before a client connects again.
const RETRY_MS: u64 = 2000;

/// The same when the server stops or its database is away.
const RETRY_LATER_MS: u64 = 5000;

/// A client that is connected.
struct Stream {
    following: Following,
    /// Comes before anything else.
    opening: Option<Bytes>,
    heartbeat: Duration,
    stopping: CancellationToken,
    is_over: bool,
    _permit: OwnedSemaphorePermit,
    _count: Count,
}

/// Counts as one client while it lives.
struct Count;

impl Count {
    fn new() -> Self {
        metrics::gauge!(instruments::SSE_CLIENTS).increment(1.0);
        Self
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        metrics::gauge!(instruments::SSE_CLIENTS).decrement(1.0);
    }
}

/// The answer that never ends by itself, unless a job does.
pub(super) fn response(
    state: &HttpState,
    following: Following,
    permit: OwnedSemaphorePermit,
) -> Response {
    let position = following.position;
    let mut opening = message::opening(RETRY_MS, position);
    if following.is_elsewhere {
        opening = [opening, message::resync(position)].concat().into();
    }
    let stream = Stream {
        following,
        opening: Some(opening),
        heartbeat: state.limits.heartbeat,
        stopping: state.stopping.clone(),
        is_over: false,
        _permit: permit,
        _count: Count::new(),
    };
    let messages = stream::unfold(stream, |mut stream: Stream| async move {
        let bytes = stream.next().await?;
        Some((Ok::<_, Infallible>(bytes), stream))
    });
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        // A reverse proxy may collect what it passes on, unless it is told not to.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    (headers, Body::from_stream(messages)).into_response()
}

impl Stream {
    async fn next(&mut self) -> Option<Bytes> {
        if self.is_over {
            return None;
        }
        if let Some(opening) = self.opening.take() {
            return Some(opening);
        }
        let until = tokio::time::Instant::now() + self.heartbeat;
        loop {
            tokio::select! {
                biased;
                () = self.stopping.cancelled() => return Some(self.end(message::retry(RETRY_LATER_MS))),
                step = self.following.next() => match step {
                    Ok(LogItem::Event(entry)) => return Some(message::event(&entry)),
                    Ok(LogItem::Progress(job)) => {
                        if let Some(progress) = message::progress(&job) {
                            return Some(progress);
                        }
                    }
                    Ok(LogItem::Over(status)) => return Some(self.end(message::end(status))),
                    Err(error) => {
                        let error = &error as &dyn std::error::Error;
                        tracing::warn!(error, "a stream of events ends early");
                        return Some(self.end(message::retry(RETRY_LATER_MS)));
                    }
                },
                () = tokio::time::sleep_until(until) => return Some(message::HEARTBEAT),
            }
        }
    }

    fn end(&mut self, last: Bytes) -> Bytes {
        self.is_over = true;
        last
    }
}
