//! Settings: each is one field with its flag, its variable and its default. Nothing else is read.
//!
//! The parts of the service read the group that is theirs.

mod bucket;
mod environment;
mod listen;
mod log;
mod storage;
mod values;
mod webhooks;
mod worker;

use std::time::Duration;

use clap::{Args, Command};

pub use bucket::{BucketArgs, HiddenText, KeyArgs};
pub use environment::read_leniently;
pub use listen::{ConnectionLimits, ListenArgs, RequestLimits};
pub use log::{LogArgs, LogFormat};
pub use storage::StorageArgs;
pub use values::address;
pub use webhooks::WebhookArgs;
pub use worker::{WORKER_LISTEN, WorkerArgs};

/// All settings of a server.
#[derive(Debug, Clone, Args)]
pub struct ServerConfig {
    /// Where it keeps its data.
    #[command(flatten)]
    pub storage: StorageArgs,
    /// How the worker pool works.
    #[command(flatten)]
    pub worker: WorkerArgs,
    /// Where it listens.
    #[command(flatten)]
    pub listen: ListenArgs,
    /// How webhooks are sent.
    #[command(flatten)]
    pub webhooks: WebhookArgs,
}

/// Makes the defaults of a group of settings those of its flags.
macro_rules! default_from_flags {
    ($($group:ty),+) => {
        $(impl Default for $group {
            /// The environment is not read.
            fn default() -> Self {
                defaults()
            }
        })+
    };
}

default_from_flags!(StorageArgs, BucketArgs, WorkerArgs, ListenArgs, WebhookArgs);

fn defaults<T: Args>() -> T {
    let command = T::augment_args(Command::new("defaults").no_binary_name(true));
    let command = command.mut_args(|arg| arg.env(None));
    let settings = T::from_arg_matches(&command.get_matches_from([""; 0]));
    settings.unwrap_or_else(|error| unreachable!("a test reads the defaults: {error}"))
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
    fn the_defaults_are_those_of_the_flags() {
        let config = parse(&[]).unwrap();
        assert_eq!(StorageArgs::default().home, config.storage.home);
        assert_eq!(BucketArgs::default().region, config.storage.bucket.region);
        assert_eq!(WorkerArgs::default().devices, config.worker.devices);
        assert_eq!(ListenArgs::default().listen, config.listen.listen);
        let timeout = config.webhooks.webhook_timeout_seconds;
        assert_eq!(WebhookArgs::default().webhook_timeout_seconds, timeout);
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
    fn a_submission_waits_for_the_hub_for_less_than_a_request_may_take() {
        let check = |hub, request| {
            let flags = ["--hub-check-seconds", hub, "--request-seconds", request];
            parse(&flags).unwrap().listen.check()
        };
        assert!(check("20", "30").is_ok());
        assert!(check("0", "1").is_ok());
        let refused = check("15", "15").unwrap_err();
        assert!(refused.contains("--hub-check-seconds 15"), "{refused}");
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
