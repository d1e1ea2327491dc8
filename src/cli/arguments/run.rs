//! How a command computes and what it prints.

use crate::pipeline::DeviceName;
use crate::request::Defaults;

/// How a command computes and what it prints.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Running")]
pub(in crate::cli) struct RunArgs {
    /// `cpu` or `cuda:N`
    #[arg(long, default_value = "cpu")]
    pub(in crate::cli) device: DeviceName,
    /// Threads to compute with [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(in crate::cli) threads: Option<u16>,
    /// Print the results as JSON
    #[arg(long)]
    pub(in crate::cli) json: bool,
    /// Say what it would take (memory, disk, downloads, time), and do nothing
    #[arg(long, conflicts_with = "json")]
    pub(in crate::cli) dry_run: bool,
    /// Show no progress
    #[arg(long)]
    pub(in crate::cli) quiet: bool,
}

impl RunArgs {
    /// What suits the device.
    pub(in crate::cli) fn defaults(&self) -> Defaults {
        Defaults::for_devices(&[self.device.to_string()])
    }
}
