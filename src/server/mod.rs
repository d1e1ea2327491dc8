//! Accepts, serves and ends connections, also of clients that stall. Knows no routes.
//!
//! `axum::serve` sets no deadline on a request's head nor on what a client leaves unread. Here a client that is silent
//! while it is its turn is cut: in the middle of a head, between two requests, and in the middle of an answer. The
//! body of a request has its deadline where it is read.

mod stall;

use std::io;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;
use tower::util::MapRequest;

use crate::config::ConnectionLimits;
use stall::Patient;

type Routes = MapRequest<Router, fn(Request<Incoming>) -> Request<Body>>;
type Connection = http1::Connection<TokioIo<Patient<TcpStream>>, TowerToHyperService<Routes>>;

/// Buffer for the head of a request, and for an unread answer.
const BUFFER: usize = 64 * 1024;

/// Wait after the system refused a connection, mostly for lack of file descriptors.
const PAUSE: Duration = Duration::from_secs(1);

/// Raises the limit of open files, and limits connections to half of it.
///
/// The database and the attempts need files too.
#[must_use]
pub fn within_system(limits: ConnectionLimits) -> ConnectionLimits {
    let files = raise_file_limit();
    let half = usize::try_from(files / 2).unwrap_or(usize::MAX);
    ConnectionLimits {
        connections: limits.connections.min(half),
        ..limits
    }
}

/// Serves until `stop` is cancelled and the open requests have ended.
///
/// New connections are still answered meanwhile, so that health checks see it.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: ConnectionLimits,
    stop: CancellationToken,
) {
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(_ended) = connections.join_next() => {}
            stream = accept(&listener), if connections.len() < limits.connections => {
                let connection = connect(stream, router.clone(), limits, true);
                connections.spawn(ended(graceful.watch(connection)));
                if connections.len() == limits.connections {
                    tracing::warn!(connections = limits.connections, "no further connections are accepted for now");
                }
            }
        }
    }
    let mut drained = pin!(graceful.shutdown());
    loop {
        tokio::select! {
            biased;
            () = &mut drained => break,
            Some(_ended) = connections.join_next() => {}
            stream = accept(&listener), if connections.len() < limits.connections => {
                connections.spawn(ended(connect(stream, router.clone(), limits, false)));
            }
        }
    }
}

/// One connection; with `is_lasting` it takes one request after the other.
fn connect(
    stream: TcpStream,
    router: Router,
    limits: ConnectionLimits,
    is_lasting: bool,
) -> Connection {
    let service = router.map_request(of_axum as fn(_) -> _);
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(BUFFER)
        .keep_alive(is_lasting)
        .serve_connection(
            TokioIo::new(Patient::new(stream, limits.stall)),
            TowerToHyperService::new(service),
        )
}

fn of_axum(request: Request<Incoming>) -> Request<Body> {
    request.map(Body::new)
}

/// What a client does to its connection is its own affair.
async fn ended(connection: impl Future<Output = hyper::Result<()>>) {
    if let Err(error) = connection.await {
        tracing::debug!(error = &error as &dyn std::error::Error, "connection cut");
    }
}

/// The next connection, however often the system fails to give one.
async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _address)) => {
                // Events are small and shall not wait for each other.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(error = &error as &dyn std::error::Error, "connection lost");
                    continue;
                }
                return stream;
            }
            Err(error) if is_of_client(&error) => {}
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "cannot accept a connection"
                );
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Whether the client was gone before it was accepted.
fn is_of_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
}

/// As many open files as the system lets this process have: the usual soft limit of 1024 is less than the connections.
fn raise_file_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            current = limit.current,
            "cannot raise the limit of open files"
        );
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}
