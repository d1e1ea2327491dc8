//! What a worker and the child process that runs one attempt say to each other.
//!
//! The child reads one [`AttemptSpec`] as one line of JSON on its standard input, then writes one
//! [`AttemptMessage`] per line on its standard output. The last line is `succeeded`, `paused` or `failed`; a child that
//! ends without either has crashed. The line `pause` asks the child to stop at its next checkpoint; it says `paused`
//! then. End of file on the child's standard input means that its worker is gone:
//! the child then ends at once.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::id::JobId;
use super::job::failure::AttemptFailure;
use super::job::progress::{Phase, Step};
use super::report::manifest::JobReport;
use super::spec::JobSpec;

/// One attempt at one job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttemptSpec {
    /// The job, for logs.
    pub job_id: String,
    /// 1 for the first attempt.
    pub attempt: u32,
    /// What to do.
    pub spec: JobSpec,
    /// `cpu` or `cuda:N`.
    pub device: String,
    /// Threads to compute with.
    pub threads: usize,
    /// This job's own directory, kept between attempts: downloads in progress, the unfinished artifact, the
    /// checkpoint. The finished artifact lies in `artifact/` below it.
    pub scratch: PathBuf,
    /// Where local models lie (`SECATEUR_MODELS_DIR`).
    pub models_dir: Option<PathBuf>,
    /// Where data sets lie (`SECATEUR_DATA_DIR`).
    pub data_dir: Option<PathBuf>,
    /// Where the bundled model and its text were unpacked.
    pub bundled_dir: PathBuf,
    /// Scores of models by their content, shared by all attempts and kept when they end. It may not exist yet.
    pub scores_dir: PathBuf,
    /// The artifact's directory of every job that `spec` names as a model. Not to be written to.
    pub job_artifacts: BTreeMap<JobId, PathBuf>,
    /// Whether checkpoints are wanted that another machine can go on from.
    pub portable_checkpoints: bool,
    /// A checkpoint that came from another machine. It need not fit.
    pub received: Option<PathBuf>,
}

/// The directory of checkpoints within [`AttemptSpec::scratch`].
pub const JOURNAL_DIR: &str = "journal";

/// The file in [`JOURNAL_DIR`] that says which the others are; the last one to be there.
pub const JOURNAL_STATE_FILE: &str = "state.json";

/// The file in [`AttemptSpec::scratch`] that is locked by whoever works there, a process or the worker that stores what
/// the process left. It holds the number of the attempt and, after a space, the id of its process; a worker leaves that out.
pub const LOCK_FILE: &str = "lock";

/// A checkpoint that another machine can go on from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortableCheckpoint {
    /// The block that comes next.
    pub next_block: usize,
    /// What stands in [`JOURNAL_STATE_FILE`].
    pub state: String,
    /// Every other file of it in [`JOURNAL_DIR`]. None is ever changed, but some go when the next checkpoint is there.
    pub files: Vec<CheckpointFile>,
}

/// One file of a checkpoint, by content.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CheckpointFile {
    /// Its name within [`JOURNAL_DIR`].
    pub name: String,
    /// Its SHA-256, in hexadecimal.
    pub sha256: String,
}

/// What a worker may write after the [`AttemptSpec`], as a line of its own.
pub const PAUSE: &str = "pause";

/// One line of a child's standard output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum AttemptMessage {
    /// A phase has begun.
    Phase {
        /// Which one.
        phase: Phase,
    },
    /// The current phase moved on.
    Progress {
        /// How far.
        #[serde(flatten)]
        step: Step,
    },
    /// The attempt goes on from a checkpoint of an earlier one.
    Resumed {
        /// The first block that is pruned again.
        block: usize,
        /// Number of blocks.
        blocks: usize,
    },
    /// A checkpoint is on disk that another machine can go on from.
    Saved {
        /// Which one.
        #[serde(flatten)]
        checkpoint: PortableCheckpoint,
    },
    /// The artifact lies finished in the scratch directory.
    Succeeded {
        /// What was done and measured.
        report: JobReport,
    },
    /// The attempt stopped at a checkpoint, as it was told to.
    Paused,
    /// The attempt ended with an error.
    Failed {
        /// Which one.
        #[serde(flatten)]
        failure: AttemptFailure,
    },
}
