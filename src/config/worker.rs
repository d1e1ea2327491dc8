//! How the worker pool works.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::{seconds, values};
use crate::domain::HubToken;

/// Where a worker without an API answers health checks unless it is told otherwise.
pub const WORKER_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8485);

/// How the worker pool works.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Worker")]
pub struct WorkerArgs {
    /// Devices to compute on, `cpu` or `cuda:N`, separated by commas; each runs one job at a time
    #[arg(long, value_name = "LIST", env = "SECATEUR_DEVICES", default_value = "cpu", value_delimiter = ',', value_parser = device)]
    pub devices: Vec<String>,

    /// Memory for all jobs together, in bytes or as 8G; that of the machine or its control group unless given
    #[arg(long, value_name = "BYTES", env = "SECATEUR_MEMORY_BYTES", value_parser = values::bytes)]
    pub memory_bytes: Option<u64>,

    /// Threads of each job; one per processor unless given
    #[arg(long, value_name = "N", env = "SECATEUR_THREADS")]
    pub threads: Option<NonZeroUsize>,

    /// Most bytes of the hub's cache on this machine, such as 200G: of more, models that no running job uses are removed, superseded commits first; no limit unless given. Other programs may use that cache too
    #[arg(long, value_name = "BYTES", env = "SECATEUR_HUB_CACHE_BYTES", value_parser = values::bytes)]
    pub hub_cache_bytes: Option<u64>,

    /// How long a worker keeps a job without renewing its lease
    #[arg(long, value_name = "SECONDS", env = "SECATEUR_LEASE_SECONDS", default_value = "300", value_parser = seconds)]
    pub lease_seconds: Duration,

    /// How often a worker renews its lease
    #[arg(long, value_name = "SECONDS", env = "SECATEUR_HEARTBEAT_SECONDS", default_value = "15", value_parser = seconds)]
    pub heartbeat_seconds: Duration,

    /// How often expired leases and leftover files are looked for
    #[arg(long, value_name = "SECONDS", env = "SECATEUR_SWEEP_SECONDS", default_value = "30", value_parser = seconds)]
    pub sweep_seconds: Duration,

    /// Wait before a failed job is tried again; doubles with each further attempt
    #[arg(long, value_name = "SECONDS", env = "SECATEUR_RETRY_SECONDS", default_value = "5", value_parser = seconds)]
    pub retry_seconds: Duration,

    /// Token for gated models of the hub
    #[arg(long, env = "HF_TOKEN", hide = true)]
    pub hub_token: Option<HubToken>,

    /// The program that runs attempts; this program unless set
    #[arg(skip)]
    pub program: Option<PathBuf>,
}

fn device(text: &str) -> Result<String, String> {
    let is_cuda = |index: &str| !index.is_empty() && index.bytes().all(|b| b.is_ascii_digit());
    if text == "cpu" || text.strip_prefix("cuda:").is_some_and(is_cuda) {
        Ok(text.to_owned())
    } else {
        Err("expected `cpu` or `cuda:N`".to_owned())
    }
}
