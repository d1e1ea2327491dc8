//! Settings: flags, each with its `SECATEUR_…` variable and its default. Nothing else is read.

mod bucket;

use std::iter;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use ipnet::IpNet;
use reqwest::Url;

use crate::artifacts::ArtifactPlace;
use crate::domain::HubReach;
use crate::http;
use crate::server;
use crate::store::DatabaseUrl;
pub use bucket::{BucketArgs, KeyArgs, Secret};

/// Where things lie.
#[derive(Debug, Clone, Args)]
pub struct StorageArgs {
    /// Directory of this server: its database, artifacts, and jobs in progress
    #[arg(
        long,
        value_name = "DIR",
        env = "SECATEUR_HOME",
        default_value = "./secateur-data"
    )]
    pub home: PathBuf,

    /// Database: `sqlite://PATH` or `postgres://USER:PASSWORD@HOST:PORT/DATABASE`; a file in the home unless given. With a password, set the variable: flags are seen by everybody on the machine
    #[arg(
        long,
        value_name = "URL",
        env = "SECATEUR_DATABASE_URL",
        hide_env_values = true
    )]
    pub database_url: Option<DatabaseUrl>,

    /// Where finished artifacts lie: a directory, or `s3://BUCKET/PREFIX` for workers on several machines; a directory in the home unless given
    #[arg(long, value_name = "PLACE", env = "SECATEUR_ARTIFACTS")]
    pub artifacts: Option<ArtifactPlace>,

    /// How a bucket is reached
    #[command(flatten)]
    pub bucket: BucketArgs,

    /// Directory of local models: a job's `{"source": "local", "id": …}` is a directory below it
    #[arg(long, value_name = "DIR", env = "SECATEUR_MODELS_DIR")]
    pub models_dir: Option<PathBuf>,

    /// Directory of data sets: `c4/en_train.jsonl`, `wikitext2/wiki.test.raw`, `boolq/validation.jsonl`, and files of your own. What a registered data set lacks here comes from the hub; the API and all workers need the same one
    #[arg(long, value_name = "DIR", env = "SECATEUR_DATA_DIR")]
    pub data_dir: Option<PathBuf>,

    /// Whether the hub may be asked for data sets; as `HF_HUB_OFFLINE` says unless set
    #[arg(skip)]
    pub hub: Option<HubReach>,
}

impl StorageArgs {
    /// The database.
    pub fn database(&self) -> DatabaseUrl {
        let default = || DatabaseUrl::file(&self.home.join("secateur.db"));
        self.database_url.clone().unwrap_or_else(default)
    }

    /// The artifact store.
    pub fn artifacts(&self) -> ArtifactPlace {
        let default = || ArtifactPlace::Folder(self.home.join("artifacts"));
        self.artifacts.clone().unwrap_or_else(default)
    }

    /// The directories that jobs are written to.
    pub fn directories(&self) -> Vec<PathBuf> {
        let artifacts = match self.artifacts() {
            ArtifactPlace::Folder(root) => Some(root),
            ArtifactPlace::Bucket { .. } => None,
        };
        let others = [artifacts, self.database().directory()];
        let home = iter::once(self.home.clone());
        let outside = others.into_iter().flatten();
        home.chain(outside.filter(|other| !other.starts_with(&self.home)))
            .collect()
    }

    /// One directory per job in progress.
    pub fn scratch(&self) -> PathBuf {
        self.home.join("scratch")
    }

    /// Lock files of the workers.
    pub fn workers(&self) -> PathBuf {
        self.home.join("workers")
    }

    /// Scores of models by their content, kept so that a baseline is measured once.
    pub fn scores(&self) -> PathBuf {
        self.home.join("scores")
    }

    /// Where the bundled model is unpacked.
    pub fn bundled(&self) -> PathBuf {
        self.home.join("bundled")
    }
}

/// How the worker pool works.
#[derive(Debug, Clone, Args)]
pub struct WorkerArgs {
    /// Devices to compute on, `cpu` or `cuda:N`, separated by commas; each runs one job at a time
    #[arg(long, value_name = "LIST", env = "SECATEUR_DEVICES", default_value = "cpu", value_delimiter = ',', value_parser = device)]
    pub devices: Vec<String>,

    /// Bytes of memory that the jobs can have together; what the machine or its control group has unless given
    #[arg(long, value_name = "BYTES", env = "SECATEUR_MEMORY_BYTES")]
    pub memory_bytes: Option<u64>,

    /// Threads of each job; as many as there are processors unless given
    #[arg(long, value_name = "N", env = "SECATEUR_THREADS")]
    pub threads: Option<NonZeroUsize>,

    /// How long a job belongs to a worker that is not heard of
    #[arg(long, value_name = "SECONDS", env = "SECATEUR_LEASE_SECONDS", default_value = "300", value_parser = seconds)]
    pub lease_seconds: Duration,

    /// How often a worker says that it lives
    #[arg(long, value_name = "SECONDS", env = "SECATEUR_HEARTBEAT_SECONDS", default_value = "15", value_parser = seconds)]
    pub heartbeat_seconds: Duration,

    /// How often leases and leftovers are looked over
    #[arg(long, value_name = "SECONDS", env = "SECATEUR_SWEEP_SECONDS", default_value = "30", value_parser = seconds)]
    pub sweep_seconds: Duration,

    /// Wait before a failed job is tried again; doubles with each further attempt
    #[arg(long, value_name = "SECONDS", env = "SECATEUR_RETRY_SECONDS", default_value = "5", value_parser = seconds)]
    pub retry_seconds: Duration,

    /// The program that runs attempts; this one unless set
    #[arg(skip)]
    pub program: Option<PathBuf>,
}

/// Jobs that may wait unless the operator says otherwise.
pub const MAX_QUEUED: u32 = 100_000;

/// What the server listens on.
#[derive(Debug, Clone, Args)]
pub struct ListenArgs {
    /// Address to listen on
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "SECATEUR_LISTEN",
        default_value = "127.0.0.1:8484"
    )]
    pub listen: SocketAddr,

    /// Listen on an address that other machines reach, although anybody who reaches it can use it
    #[arg(long, env = "SECATEUR_INSECURE_NO_AUTH")]
    pub insecure_no_auth: bool,

    /// Names that clients reach the server by, separated by commas; those of this machine for itself unless given, and any
    /// with --insecure-no-auth
    #[arg(
        long,
        value_name = "LIST",
        env = "SECATEUR_HOSTS",
        value_delimiter = ','
    )]
    pub hosts: Option<Vec<String>>,

    /// So many jobs may wait; further submissions are refused until some of them run
    #[arg(
        long,
        value_name = "JOBS",
        env = "SECATEUR_MAX_QUEUED",
        default_value_t = MAX_QUEUED
    )]
    pub max_queued: u32,

    /// Serve the API only; other processes run the jobs
    #[arg(long, env = "SECATEUR_NO_WORKER")]
    pub no_worker: bool,

    /// What a client may take of a connection
    #[arg(skip)]
    pub connection_limits: server::Limits,

    /// What a client may take of a request
    #[arg(skip)]
    pub request_limits: http::Limits,
}

/// What webhooks may reach.
#[derive(Debug, Clone, Args)]
pub struct WebhookArgs {
    /// Address ranges that webhooks may reach although they are not public, such as `10.0.0.0/8`, separated by commas
    #[arg(
        long,
        value_name = "LIST",
        env = "SECATEUR_WEBHOOK_ALLOW",
        value_delimiter = ','
    )]
    pub webhook_allow: Vec<IpNet>,

    /// Send webhooks over `http` too, and to any port: they are signed and not secret
    #[arg(long, env = "SECATEUR_WEBHOOK_ALLOW_HTTP")]
    pub webhook_allow_http: bool,

    /// How long a receiver has to answer
    #[arg(long, value_name = "SECONDS", env = "SECATEUR_WEBHOOK_TIMEOUT_SECONDS", default_value = "15", value_parser = seconds)]
    pub webhook_timeout_seconds: Duration,
}

impl Default for WebhookArgs {
    fn default() -> Self {
        Self {
            webhook_allow: Vec::new(),
            webhook_allow_http: false,
            webhook_timeout_seconds: Duration::from_secs(15),
        }
    }
}

/// What is logged.
#[derive(Debug, Clone, Args)]
pub struct LogArgs {
    /// Levels to log, such as `info` or `secateur=debug,warn`
    #[arg(
        long,
        value_name = "FILTER",
        env = "SECATEUR_LOG",
        default_value = "info"
    )]
    pub log: String,

    /// How a line of the log looks
    #[arg(
        long,
        value_name = "FORMAT",
        env = "SECATEUR_LOG_FORMAT",
        default_value = "text"
    )]
    pub log_format: LogFormat,

    /// Collector that traces are sent to, as OTLP over HTTP, such as `http://localhost:4318`; none unless given
    #[arg(long, value_name = "URL", env = "OTEL_EXPORTER_OTLP_ENDPOINT")]
    pub otlp_endpoint: Option<Url>,

    /// What traces call this program
    #[arg(
        long,
        value_name = "NAME",
        env = "OTEL_SERVICE_NAME",
        default_value = "secateur"
    )]
    pub otlp_service_name: String,
}

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Everything that a server needs to know.
#[derive(Debug, Clone, Args)]
pub struct ServerConfig {
    /// Where things lie.
    #[command(flatten)]
    pub storage: StorageArgs,
    /// How the worker pool works.
    #[command(flatten)]
    pub worker: WorkerArgs,
    /// What the server listens on.
    #[command(flatten)]
    pub listen: ListenArgs,
    /// What webhooks may reach.
    #[command(flatten)]
    pub webhooks: WebhookArgs,
}

impl ListenArgs {
    /// There is no authentication yet, so only this machine may connect unless the operator insists.
    pub fn check(&self) -> Result<(), String> {
        if self.listen.ip().is_loopback() || self.insecure_no_auth {
            return Ok(());
        }
        Err(format!(
            "{} can be reached by other machines, and this version has no authentication: whoever reaches it can \
             submit, cancel and download; listen on 127.0.0.1, or accept that with --insecure-no-auth",
            self.listen
        ))
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>().map(Duration::try_from_secs_f64) {
        Ok(Ok(duration))
            if duration >= Duration::from_millis(10) && duration.as_secs() <= 86_400 =>
        {
            Ok(duration)
        }
        _ => Err("expected a number of seconds from 0.01 to 86400".to_owned()),
    }
}

fn device(text: &str) -> Result<String, String> {
    let is_cuda = |index: &str| !index.is_empty() && index.bytes().all(|b| b.is_ascii_digit());
    if text == "cpu" || text.strip_prefix("cuda:").is_some_and(is_cuda) {
        Ok(text.to_owned())
    } else {
        Err("expected `cpu` or `cuda:N`".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        config: ServerConfig,
    }

    fn parse(flags: &[&str]) -> Result<ServerConfig, clap::Error> {
        Cli::try_parse_from(std::iter::once(&"secateur").chain(flags)).map(|cli| cli.config)
    }

    #[test]
    fn everything_has_a_default() {
        let config = parse(&[]).unwrap();
        assert_eq!(config.listen.listen.to_string(), "127.0.0.1:8484");
        assert_eq!(config.worker.devices, ["cpu"]);
        assert_eq!(config.worker.lease_seconds, Duration::from_mins(5));
        assert!(config.listen.check().is_ok());
    }

    #[test]
    fn an_open_address_needs_an_explicit_word() {
        assert!(
            parse(&["--listen", "0.0.0.0:80"])
                .unwrap()
                .listen
                .check()
                .is_err()
        );
        assert!(
            parse(&["--listen", "[::]:80", "--insecure-no-auth"])
                .unwrap()
                .listen
                .check()
                .is_ok()
        );
    }

    #[test]
    fn devices_and_times_are_checked() {
        assert_eq!(
            parse(&["--devices", "cuda:0,cuda:1"])
                .unwrap()
                .worker
                .devices,
            ["cuda:0", "cuda:1"]
        );
        for flags in [
            ["--devices", "gpu"],
            ["--devices", "cuda:"],
            ["--lease-seconds", "0"],
            ["--sweep-seconds", "NaN"],
        ] {
            assert!(parse(&flags).is_err(), "{flags:?}");
        }
    }
}
