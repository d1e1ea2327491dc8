//! Where the API listens, and what its clients may use.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;

use super::{address, seconds};

/// Where the API listens, and what its clients may use.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "API")]
pub struct ListenArgs {
    /// Address to listen on: IP:PORT, or a port of this machine
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "SECATEUR_LISTEN",
        default_value = "127.0.0.1:8484",
        value_parser = address
    )]
    pub listen: SocketAddr,

    /// Listen on an address that other machines reach, although there is no authentication
    #[arg(long, env = "SECATEUR_INSECURE_NO_AUTH")]
    pub insecure_no_auth: bool,

    /// Host names that clients use for the server, separated by commas; the local names unless given, and with
    /// --insecure-no-auth addresses and names without a dot. Health checks and metrics answer under any name
    #[arg(
        long,
        value_name = "LIST",
        env = "SECATEUR_HOSTS",
        value_delimiter = ','
    )]
    pub hosts: Option<Vec<String>>,

    /// The most jobs that may wait; further submissions are refused until some of them run
    #[arg(
        long,
        value_name = "JOBS",
        env = "SECATEUR_MAX_QUEUED",
        default_value_t = 100_000
    )]
    pub max_queued: u32,

    /// How long a submission waits for what the hub says of its models; 0 = the hub is asked when the job runs
    #[arg(
        long,
        value_name = "SECONDS",
        env = "SECATEUR_HUB_CHECK_SECONDS",
        default_value = "5",
        value_parser = seconds_or_none
    )]
    pub hub_check_seconds: Duration,

    /// Serve the API only; other processes run the jobs
    #[arg(long, env = "SECATEUR_NO_WORKER")]
    pub no_worker: bool,

    /// Limits of a connection
    #[arg(skip)]
    pub connection_limits: ConnectionLimits,

    /// Limits of a request
    #[command(flatten)]
    pub request_limits: RequestLimits,
}

/// What a client may take of a connection.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// Time for the head of a request, counted from the connection or from the end of the answer before: also how long a
    /// connection may be idle.
    pub head: Duration,
    /// Time in which a client that is sent something must have read at least a part of it.
    pub stall: Duration,
    /// Open connections; further ones wait in the system's queue.
    pub connections: usize,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(10),
            stall: Duration::from_secs(30),
            connections: 4096,
        }
    }
}

/// What a client may take of a request.
#[derive(Debug, Clone, Copy, Args)]
pub struct RequestLimits {
    /// How long a request may take until its body is read and its answer begins; a download may go on for longer
    #[arg(
        long = "request-seconds",
        value_name = "SECONDS",
        env = "SECATEUR_REQUEST_SECONDS",
        default_value = "15",
        value_parser = seconds
    )]
    pub request: Duration,
    /// How long a stream of events is silent before it sends a comment.
    #[arg(skip = Self::default().heartbeat)]
    pub heartbeat: Duration,
    /// Streams and delayed answers at the same time: the other connections are for everything else.
    #[arg(skip = Self::default().held)]
    pub held: usize,
}

impl Default for RequestLimits {
    fn default() -> Self {
        Self {
            request: Duration::from_secs(15),
            heartbeat: Duration::from_secs(15),
            held: 2048,
        }
    }
}

fn seconds_or_none(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    seconds(text).map_err(|expected| format!("{expected}, or 0"))
}

impl ListenArgs {
    /// There is no authentication yet, so only this machine may connect unless the operator insists. A submission that
    /// waits for the hub must have time left to be stored.
    pub fn check(&self) -> Result<(), String> {
        let (hub, request) = (self.hub_check_seconds, self.request_limits.request);
        if hub >= request {
            return Err(format!(
                "a submission would wait for the hub as long as a request may take: --hub-check-seconds {} must be less \
                 than --request-seconds {}",
                hub.as_secs_f64(),
                request.as_secs_f64()
            ));
        }
        if self.listen.ip().is_loopback() || self.insecure_no_auth {
            return Ok(());
        }
        Err(format!(
            "{} can be reached by other machines, and this version has no authentication: anybody who reaches it can \
             submit, cancel and download; listen on 127.0.0.1, or accept that with --insecure-no-auth",
            self.listen
        ))
    }
}
