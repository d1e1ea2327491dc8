//! What a worker and the child process that runs one attempt say to each other.
//!
//! The child reads one [`AttemptSpec`] as one line of JSON on its standard input, then writes one
//! [`AttemptMessage`] per line on its standard output. The last line is `succeeded`, `paused` or `failed`; a child that
//! ends without either has crashed. The line `pause` asks the child to stop when it has saved its resume state; it says `paused`
//! then. End of file on the child's standard input means that its worker is gone:
//! the child then ends at once.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::hub_reach::HubToken;
use super::id::JobId;
use super::job::failure::AttemptFailure;
use super::job::progress::{Phase, Step};
use super::report::manifest::JobReport;
use super::spec::{JobSpec, PinnedCommit};

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
    /// The job's scratch directory, kept between attempts.
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
    /// Whether the resume state must be one that another machine can go on from.
    // A server whose binary was replaced starts the new one: the name is that of the versions before.
    #[serde(rename = "portable_checkpoints")]
    pub has_portable_state: bool,
    /// A resume state that came from another machine. It may not fit.
    pub received: Option<PathBuf>,
    /// Bytes of memory that the attempt may take; `None` = not known.
    #[serde(default)]
    pub memory_bytes: Option<u64>,
    /// The token for the hub. In no variable, which other processes could read.
    #[serde(default)]
    pub hub_token: Option<HubToken>,
    /// The commits that the submission or earlier attempts found.
    #[serde(default)]
    pub commits: Vec<PinnedCommit>,
    /// When the job was submitted; `None` from a server that does not tell.
    #[serde(default)]
    pub submitted_at: Option<Timestamp>,
}

/// The file of a resume state that names the others; it is written last.
pub const RESUME_STATE_FILE: &str = "state.json";

/// A resume state that another machine can go on from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResumePoint {
    /// The block that comes next.
    pub next_block: usize,
    /// The content of [`RESUME_STATE_FILE`].
    pub state: String,
    /// Its other files. None is ever changed, but some are removed when the next state is saved.
    pub files: Vec<ResumeFile>,
}

/// One file of a resume state, by content.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ResumeFile {
    /// Its name in the directory of the state.
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
    /// The attempt goes on from the resume state of an earlier one.
    Resumed {
        /// The first block that is pruned again.
        block: usize,
        /// Number of blocks.
        blocks: usize,
    },
    /// The commit of a hub model was found.
    Pinned {
        /// Which one.
        #[serde(flatten)]
        commit: PinnedCommit,
    },
    /// A resume state is on disk that another machine can go on from.
    Saved {
        /// Which one.
        #[serde(flatten)]
        point: ResumePoint,
    },
    /// The artifact lies finished in the scratch directory.
    Succeeded {
        /// What was done and measured.
        report: JobReport,
    },
    /// The attempt saved its resume state and stopped, as it was told to.
    Paused,
    /// The attempt ended with an error.
    Failed {
        /// Which one.
        #[serde(flatten)]
        failure: AttemptFailure,
        /// What is away; `None` where the attempt itself is at fault.
        #[serde(default)]
        outage: Option<Outage>,
    },
}

/// What an attempt cannot go on without, through no fault of its job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outage {
    /// The hub.
    Hub,
    /// This many bytes of disk.
    Disk(u64),
    /// This many bytes of memory.
    Memory(u64),
}
