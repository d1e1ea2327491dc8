//! `secateur run-attempt`: one attempt at a job, as a child process of a worker.
//!
//! Speaks the protocol of [`crate::domain::attempt`] on standard input and output.

use std::fs;
use std::io::{BufRead as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::gate::Gates;
use super::pace::Pace;
use super::use_threads;
use crate::domain::ErrorCode;
use crate::domain::attempt::{AttemptMessage, AttemptSpec, PAUSE, ResumeFile, ResumePoint};
use crate::domain::job::failure::AttemptFailure;
use crate::domain::job::progress::{Phase, Step};
use crate::domain::redact::HiddenDirs;
use crate::domain::report::manifest::JobReport;
use crate::domain::spec::JobSpec;
use crate::engine::{EngineError, SavedState};
use crate::pipeline::hub::cache_dirs;
use crate::pipeline::{self, Listener, PipelineError, Plan, Workspace};
use crate::scratch::{ScratchDir, ScratchLock};

/// Progress is told at most this often.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);
/// The command's name, by which a process is known for an attempt's.
const COMMAND: &str = "run-attempt";
/// How long an earlier attempt's process is waited for until it is ended.
const HOLDER_PATIENCE: Duration = Duration::from_secs(2);
/// How often it is looked after.
const LOCK_POLL: Duration = Duration::from_millis(50);
/// Exit code when the worker is gone.
const ORPHANED: i32 = 3;

/// Run one attempt at a job (started by a worker).
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the command.
pub fn run(_args: &Args) -> anyhow::Result<()> {
    let mut line = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut line)
        .context("cannot read the attempt from standard input")?;
    let attempt: AttemptSpec =
        serde_json::from_str(&line).context("cannot understand the attempt on standard input")?;
    let is_paused = Arc::new(AtomicBool::new(false));
    hear_the_worker(Arc::clone(&is_paused));
    use_threads(u16::try_from(attempt.threads).ok())?;
    let mut speaker = Speaker {
        is_paused: Arc::clone(&is_paused),
        gates: Gates::of_scratch(&attempt.scratch),
        phase: None,
        last_progress: None,
        pace: Pace::default(),
    };
    let message = match work(&attempt, &mut speaker) {
        Ok(report) => AttemptMessage::Succeeded { report },
        // Nothing else stops a pass here.
        Err(PipelineError::Engine(EngineError::Stopped)) if is_paused.load(Ordering::Relaxed) => {
            AttemptMessage::Paused
        }
        Err(error) => {
            let (code, chain) = (error.code(), error.chain());
            complain(&format!("attempt failed: {}: {chain}", code.as_str()));
            let failure = AttemptFailure {
                code,
                message: hidden_dirs(&attempt).hide(&chain),
                phase: speaker.phase,
                retryable: code.retryable(),
            };
            AttemptMessage::Failed { failure }
        }
    };
    say(&message);
    Ok(())
}

fn work(attempt: &AttemptSpec, speaker: &mut Speaker) -> Result<JobReport, PipelineError> {
    let scratch = ScratchDir::at(attempt.scratch.clone());
    let _lock = lock_scratch(&scratch, attempt.attempt)?;
    let artifact = scratch.artifact();
    match &attempt.spec {
        JobSpec::Prune(spec) => {
            let plan = Plan::of_attempt(attempt, spec)?;
            let workspace = Workspace {
                artifact,
