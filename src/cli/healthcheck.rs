//! `secateur healthcheck`: asks a server whether it is ready, for containers that have no other client.

use std::time::Duration;

use anyhow::Context;

/// Exit with 0 when the server at the URL is ready.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Base URL of the server
    #[arg(
        long,
        value_name = "URL",
        env = "SECATEUR_URL",
        default_value = "http://127.0.0.1:8484"
    )]
    url: String,

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
    let url = format!("{}/readyz", args.url.trim_end_matches('/'));
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
            let response = client
                .get(&url)
                .send()
                .await
                .with_context(|| format!("{url} does not answer"))?;
            let status = response.status();
            anyhow::ensure!(
                status.is_success(),
                "{url} answers {status}: {}",
                response.text().await?
            );
            Ok(())
        })
}
