//! `secateur demo`: the whole service in one command.
//!
//! Starts a server in a fresh directory, POSTs jobs to it over HTTP as a client would, shows their progress, and
//! prints what came out.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use super::Interrupted;
use super::output::progress::JobBar;
use super::output::table;
use super::signals::StopSignals;
use crate::app::{self, RunningApp};
use crate::config::{ListenArgs, ServerConfig, StorageArgs, WebhookArgs, WorkerArgs};
use crate::corpora::DEMO;
use crate::domain::spec::BUNDLED_MODEL;
use crate::engine::{METHODS, Pattern};

/// The number of methods to show, from the head of the table.
const SHOWN: usize = 2;

/// How often a job is polled.
const POLL: Duration = Duration::from_millis(100);

/// Prune the bundled model over HTTP and show what came out.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  secateur demo
  secateur demo --keep-serving")]
pub struct Args {
    /// Prune this model instead: a hub id (org/name) or a model directory
    #[arg(long, default_value = BUNDLED_MODEL)]
    model: String,
    /// Keep the server running afterwards, until Ctrl-C
    #[arg(long)]
    keep_serving: bool,
    #[command(flatten)]
    worker: WorkerArgs,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let runtime = runtime.context("cannot start the runtime")?;
    let home = tempfile::Builder::new()
        .prefix("secateur-demo-")
        .tempdir()
        .context("cannot create a directory")?;
    runtime.block_on(demonstrate(args, home.path()))?;
    // The artifacts are in it; after a failure or Ctrl-C it goes.
    drop(home.keep());
    Ok(())
}

async fn demonstrate(args: Args, home: &Path) -> anyhow::Result<()> {
    let mut signals = StopSignals::listen()?;
    let (model, models_dir) = model_of_request(&args.model)?;
    let storage = StorageArgs {
        home: home.to_owned(),
        models_dir,
        ..StorageArgs::default()
    };
    let listen = ListenArgs {
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        ..ListenArgs::default()
    };
    let server = app::start(ServerConfig {
        storage,
        worker: args.worker,
        listen,
        webhooks: WebhookArgs::default(),
    })
    .await?;
    let client = ApiClient::new(&server)?;
    say(&format!("serving at {}\n", client.base));
    let shown = tokio::select! {
        shown = prune_by_each(&client, &model, home) => shown,
        status = signals.next() => Err(Interrupted { status }.into()),
    };
    if shown.is_ok() && args.keep_serving {
        say(&format!("\nserving at {} until Ctrl-C", client.base));
        signals.next().await;
    }
    server.shutdown().await?;
    shown
}

/// A job for each method, its progress, and what came out.
async fn prune_by_each(client: &ApiClient, model: &Value, home: &Path) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    for method in METHODS.iter().take(SHOWN) {
        let method = method.name();
        let job = client.submit(model, method).await?;
        rows.push((method, client.watch(&job).await?));
    }
    print_results(&rows);
    for (method, job) in &rows {
        let id = job["id"].as_str().unwrap_or_default();
        say(&format!(
            "  {method:<9}  {}",
            artifact_dir(home, id, &job["attempt"]).display()
        ));
    }
    Ok(())
}

/// The body's `model`, and the models directory it needs.
fn model_of_request(name: &str) -> anyhow::Result<(Value, Option<PathBuf>)> {
    let path = Path::new(name);
    if name == BUNDLED_MODEL || !path.is_dir() {
        return Ok((json!(name), None));
    }
    let path = path
        .canonicalize()
        .with_context(|| format!("cannot open {name}"))?;
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(id)) => Ok((
            json!({"source": "local", "id": id.to_string_lossy()}),
            Some(parent.to_path_buf()),
        )),
        _ => bail!("{name} is not a model directory"),
    }
}

fn artifact_dir(home: &Path, id: &str, attempt: &Value) -> PathBuf {
    home.join("artifacts")
        .join("jobs")
        .join(id)
        .join("attempts")
        .join(attempt.to_string())
        .join("dense")
}

/// A client of the API.
struct ApiClient {
    http: reqwest::Client,
    base: String,
}

impl ApiClient {
    fn new(server: &RunningApp) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder().no_proxy().build()?;
        Ok(Self {
            http,
            base: format!("http://{}", server.addr),
        })
    }

    async fn submit(&self, model: &Value, method: &str) -> anyhow::Result<Value> {
        let pattern = Pattern::default().to_string();
        let body = json!({
            "model": model, "method": method, "sparsity": 0.5, "pattern": pattern,
            "calibration": {"dataset": DEMO.name, "n_samples": 128, "seq_len": 128},
            "evaluation": {"perplexity": [DEMO.name], "seq_len": 128},
            "name": format!("demo: {method} 50 %"),
        });
        say(&format!(
            "POST /v1/jobs  {model}  {method}  sparsity 0.5  {pattern}"
        ));
        let response = self
            .http
            .post(format!("{}/v1/jobs", self.base))
            .json(&body)
            .send()
            .await?;
        let status = response.status();
        let job: Value = response.json().await?;
        if !status.is_success() {
            bail!(
                "{}: {}",
                job["code"].as_str().unwrap_or("internal"),
                job["detail"].as_str().unwrap_or_default()
            );
        }
        say(&format!(
            "  {status}  {}",
            job["id"].as_str().unwrap_or_default()
        ));
        Ok(job)
    }

    /// Shows the job's progress until it has ended.
    async fn watch(&self, job: &Value) -> anyhow::Result<Value> {
        let url = format!(
            "{}{}",
            self.base,
            job["links"]["self"].as_str().unwrap_or_default()
        );
        let mut bar = JobBar::new();
        loop {
            let job: Value = self
                .http
                .get(&url)
                .send()
                .await?
                .error_for_status()?
                .json()
                .await?;
            bar.show(&job);
            match job["status"].as_str() {
                Some("succeeded") => return Ok(job),
                Some("failed" | "cancelled") => bail!(
                    "{}: {}",
                    job["error"]["code"].as_str().unwrap_or("cancelled"),
                    job["error"]["message"]
                        .as_str()
                        .unwrap_or("the job was cancelled")
                ),
                _ => tokio::time::sleep(POLL).await,
            }
        }
    }
}

fn print_results(rows: &[(&str, Value)]) {
    let number = |value: &Value| {
        value
            .as_f64()
            .map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"))
    };
    let header = ["", "perplexity", "sparsity", "size", "time"]
        .map(str::to_owned)
        .to_vec();
    let mut lines = vec![header];
    if let Some((_, job)) = rows.first() {
        let dense = number(&job["results"]["perplexity"][0]["before"]);
        lines.push(vec![
            "dense".to_owned(),
            dense,
            "0.000".to_owned(),
            size(job),
            "-".to_owned(),
        ]);
    }
    for (method, job) in rows {
        let results = &job["results"];
        let label = format!("{method} 50 %");
        let perplexity = number(&results["perplexity"][0]["after"]);
        lines.push(vec![
            label,
            perplexity,
            number(&results["sparsity"]["achieved"]),
            size(job),
            duration(job),
        ]);
    }
    say(&format!("\n{}", table::columns(&lines)));
}

fn size(job: &Value) -> String {
    table::bytes(
        job["results"]["artifact_size_bytes"]
            .as_u64()
            .unwrap_or_default(),
    )
}

/// From the claim to the end.
fn duration(job: &Value) -> String {
    let time = |key: &str| job[key].as_str()?.parse::<jiff::Timestamp>().ok();
    time("started_at").zip(time("finished_at")).map_or_else(
        || "-".to_owned(),
        |(from, to)| format!("{:.1} s", to.duration_since(from).as_secs_f64()),
    )
}

#[expect(clippy::print_stdout, reason = "what the command shows")]
fn say(line: &str) {
    println!("{line}");
}
