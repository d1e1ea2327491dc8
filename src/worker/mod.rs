//! The worker pool: one slot per device; each claims jobs, supervises their processes, records their ends.
//!
//! A worker computes nothing itself: cancelling, stopping and crashing are all the end of another process. It shares the
//! database with the HTTP side, and two shortcuts: a wake-up and the requests for running jobs, which come from within
//! the process or, on PostgreSQL, from the database. Without those it looks for work every two seconds and for requests
//! every second.

mod attempt;
mod change_listener;
mod context;
mod finish;
#[cfg(test)]
mod fixture;
mod lease;
mod lock_file;
mod pool;
mod registration;
mod slot;
mod sweep;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, broadcast};

use crate::artifacts::ArtifactStore;
use crate::clock::Clock;
use crate::config::WorkerArgs;
use crate::domain::JobId;
use crate::store::Store;

pub use pool::{StartError, WorkerPool};

/// How the pool works.
#[derive(Debug, Clone)]
pub struct WorkerSettings {
    /// Devices, memory and times. Without a size of the memory that is unknown.
    pub pool: WorkerArgs,
    /// Threads of each attempt.
    pub threads: usize,
    /// The program that is started with `run-attempt`.
    pub program: PathBuf,
    /// The scratch directories of jobs.
    pub scratch_dir: PathBuf,
    /// The lock files of the workers on this machine.
    pub workers_dir: PathBuf,
    /// The local models.
    pub models_dir: Option<PathBuf>,
    /// The local data sets.
    pub data_dir: Option<PathBuf>,
    /// The unpacked bundled model.
    pub bundled_dir: PathBuf,
    /// The scores of models, shared by all attempts.
    pub scores_dir: PathBuf,
    /// The cache of the hub.
    pub hub_cache: PathBuf,
    /// How long a job that is over is retained; `None` = for ever.
    pub retention: Option<Duration>,
}

/// What the pool works with.
#[derive(Debug)]
pub struct WorkerParts {
    /// The database.
    pub store: Arc<dyn Store>,
    /// The artifacts.
    pub artifacts: Arc<dyn ArtifactStore>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The signal that a job was queued.
    pub wake: Arc<Notify>,
    /// The jobs whose workers were asked for something.
    pub asked: broadcast::Sender<JobId>,
}
