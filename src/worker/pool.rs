//! The running pool: its start and its stop.

use std::path::PathBuf;
use std::sync::Arc;

use tokio_util::task::TaskTracker;

use super::context::Context;
use super::lease::Reaper;
use super::lock_file::WorkerLock;
use super::sweep::Sweeper;
use super::{WorkerParts, WorkerSettings, change_listener, registration, slot};

/// A pool whose slots are running.
#[derive(Debug)]
pub struct WorkerPool {
    context: Arc<Context>,
    tasks: TaskTracker,
}

/// Why a pool cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its lock file cannot be created.
    #[error("cannot announce the worker in {}", directory.display())]
    Announce {
        /// The directory of lock files.
        directory: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// A device is of an unknown kind.
    #[error("{0}")]
    Device(String),
}

impl WorkerPool {
    /// Reclaims the jobs of dead workers, then starts every slot. Files that they left are removed meanwhile.
    pub async fn start(settings: WorkerSettings, parts: WorkerParts) -> Result<Self, StartError> {
        let directory = &settings.workers_dir;
        let lock = WorkerLock::acquire(directory).map_err(|source| StartError::Announce {
            directory: directory.clone(),
            source,
        })?;
        let context = Context::new(settings, parts, lock).map_err(StartError::Device)?;
        let context = Arc::new(context);
        tracing::info!(worker.id = context.worker_id(), devices = ?context.settings.pool.devices, "worker started");
        let mut reaper = Reaper::default();
        reaper.reap(&context).await;

        let tasks = TaskTracker::new();
        for device in context.profile.devices.clone() {
            tasks.spawn(slot::run(Arc::clone(&context), device));
        }
        tasks.spawn(reaper.run(Arc::clone(&context)));
        tasks.spawn(Sweeper::default().run(Arc::clone(&context)));
        tasks.spawn(change_listener::run(Arc::clone(&context)));
        tasks.spawn(registration::run(Arc::clone(&context)));
        tasks.close();
        Ok(Self { context, tasks })
    }

    /// Claims nothing more, stops every attempt and releases its job. Returns when every child is gone.
    pub async fn stop(self) {
        self.context.stop.cancel();
        self.tasks.wait().await;
        registration::remove(&self.context).await;
        tracing::info!(worker.id = self.context.worker_id(), "worker stopped");
    }
}
