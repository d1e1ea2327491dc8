//! One job's work, from a plan to a finished directory. Used by a worker's child process and by the command line; knows
//! nothing of the database.
//!
//! [`prune_series`] and [`evaluate_job`] read top to bottom. Each phase has the file or folder of its name: `resolve/`,
//! `calibrate.rs`, `prune/`, `evaluation/`, `publish/`.

mod calibrate;
mod device;
pub mod disk;
mod error;
mod evaluate_job;
mod evaluation;
mod forecast;
pub mod hub;
mod listener;
mod memory;
mod plan;
mod prune;
mod prune_job;
mod publish;
mod resolve;
mod stopwatch;
mod text;
mod warnings;

use std::path::PathBuf;

pub use device::DeviceName;
pub use error::PipelineError;
pub(crate) use evaluate_job::EVALUATION_FILE;
pub use evaluate_job::{Evaluation, evaluate, evaluate_job};
pub use forecast::{Forecast, forecast};
pub use listener::{Listener, SilentListener};
pub use memory::peak_rss_bytes;
pub use plan::{
    CalibrationPlan, EvaluationPlan, ModelSource, Plan, TaskSource, TextSource, hidden_dirs,
};
pub use prune_job::{prune_job, prune_series};
pub(crate) use publish::{MANIFEST_FILE, weights_digest};
pub use resolve::ResolvedModel;

/// Where a job may write.
#[derive(Debug, Clone)]
pub struct Workspace {
    /// Where the artifact is made. It must not exist yet, unless a resume state says how far it is.
    pub artifact: PathBuf,
    /// Where the state between blocks is kept; `None` = a killed job starts over.
    pub resume_state: Option<PathBuf>,
    /// Whether the state can be carried to another machine.
    pub is_portable: bool,
    /// A resume state that came from another machine; its files are moved.
    pub received: Option<PathBuf>,
}
