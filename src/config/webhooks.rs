//! How webhooks are sent.

use std::time::Duration;

use clap::Args;
use ipnet::IpNet;

use super::seconds;

/// Which receivers webhooks may reach.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Webhooks")]
pub struct WebhookArgs {
    /// Private address ranges that webhooks may reach, such as `10.0.0.0/8`, separated by commas
    #[arg(
        long,
        value_name = "LIST",
        env = "SECATEUR_WEBHOOK_ALLOW",
        value_delimiter = ','
    )]
    pub webhook_allow: Vec<IpNet>,

    /// Allow webhooks over `http` and to any port: they are signed, not secret
    #[arg(long, env = "SECATEUR_WEBHOOK_ALLOW_HTTP")]
    pub webhook_allow_http: bool,

    /// How long a receiver has to answer
    #[arg(long, value_name = "SECONDS", env = "SECATEUR_WEBHOOK_TIMEOUT_SECONDS", default_value = "15", value_parser = seconds)]
    pub webhook_timeout_seconds: Duration,
}
