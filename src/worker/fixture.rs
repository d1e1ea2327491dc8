//! A pool's context around a real database and a real directory, without any task that runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::{Notify, broadcast};

use super::context::Context;
use super::lock_file::WorkerLock;
use super::{WorkerParts, WorkerSettings};
use crate::artifacts;
use crate::clock::{Clock as _, SystemClock};
use crate::config::WorkerArgs;
use crate::domain::JobId;
use crate::domain::job::Job;
use crate::domain::report::manifest::JobReport;
use crate::request::{Defaults, JobRequest};
use crate::store::{self, DatabaseUrl, Time};

pub(super) async fn context(home: &Path) -> Context {
    let settings = WorkerSettings {
        pool: WorkerArgs {
            heartbeat_seconds: Duration::from_mins(1),
            sweep_seconds: Duration::from_mins(1),
            retry_seconds: Duration::ZERO,
            ..WorkerArgs::default()
        },
        threads: 1,
        program: PathBuf::new(),
        scratch_dir: home.join("scratch"),
        workers_dir: home.join("workers"),
        models_dir: None,
        data_dir: None,
        bundled_dir: home.join("bundled"),
        scores_dir: home.join("scores"),
        hub_cache: home.join("hub-cache"),
        retention: None,
    };
    let url = DatabaseUrl::file(&home.join("test.db"));
    let parts = WorkerParts {
        store: store::open(&url, Time::Database).await.unwrap(),
        artifacts: artifacts::open_folder(&home.join("artifacts")).unwrap(),
        clock: Arc::new(SystemClock),
        wake: Arc::new(Notify::new()),
        asked: broadcast::channel(1).0,
    };
    let lock = WorkerLock::acquire(&settings.workers_dir).unwrap();
    Context::new(settings, parts, lock).unwrap()
}

/// A job that this worker has claimed.
pub(super) async fn claimed(context: &Context) -> Job {
    let body = json!({"model": "demo", "sparsity": 0.5});
    let spec = JobRequest::parse(&body, Defaults::CPU).unwrap().spec;
    let job = Job::new(JobId::new(uuid::Uuid::now_v7()), spec, SystemClock.now());
    context.parts.store.insert_job(&job).await.unwrap();
    context
        .claim(&context.profile.devices[0])
        .await
        .unwrap()
        .unwrap()
}

/// A finished artifact in the job's scratch directory; gives where.
pub(super) fn build_artifact(context: &Context, job: &Job) -> (PathBuf, JobReport) {
    let directory = context.scratch(job.id).artifact();
    std::fs::create_dir_all(&directory).unwrap();
    let text = include_str!("../../tests/integration/support/stub/manifest.json");
    std::fs::write(directory.join("model.safetensors"), "0123456789").unwrap();
    std::fs::write(directory.join("secateur.json"), text).unwrap();
    let manifest = serde_json::from_str(text).unwrap();
    (directory, JobReport::Prune(Box::new(manifest)))
}
