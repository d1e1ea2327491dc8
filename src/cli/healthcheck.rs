//! `secateur healthcheck`: asks a server whether it is ready, for containers that have no other client.

use std::time::Duration;

use anyhow::Context;

use crate::config::WORKER_LISTEN;

/// The API of this machine.
const API: &str = "http://127.0.0.1:8484";

/// Exit with 0 when the server at the URL is ready.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Base URL of the server; http://127.0.0.1:8484 unless given, or the worker at port 8485 where nothing listens there
    #[arg(long, value_name = "URL", env = "SECATEUR_URL")]
    url: Option<String>,

    /// Longest wait for its answer
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    timeout: u64,
}

/// Asks once.
#[expect(
    clippy::needless_pass_by_value,
    reason = "every command takes its arguments by value"
)]
pub fn run(args: Args) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime
        .context("cannot start the runtime")?
        .block_on(async {
            let client = reqwest::Client::builder()
                .no_proxy()
                .timeout(Duration::from_secs(args.timeout))
                .build()?;
            let ask = async |url: &str| {
                let url = format!("{}/readyz", url.trim_end_matches('/'));
                client.get(url).send().await
            };
            let mut answer = ask(args.url.as_deref().unwrap_or(API)).await;
            if args.url.is_none() && answer.as_ref().is_err_and(reqwest::Error::is_connect) {
                answer = ask(&format!("http://{WORKER_LISTEN}")).await;
            }
            let response = answer.context("the server does not answer")?;
            let (url, status) = (response.url().clone(), response.status());
            let text = response.text().await?;
            anyhow::ensure!(status.is_success(), "{url} answers {status}: {text}");
            Ok(())
        })
}
