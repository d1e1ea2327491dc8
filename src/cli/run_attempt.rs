//! `secateur run-attempt`: one attempt at a job, as a child process of a worker.
//!
//! Speaks the protocol of [`crate::domain::attempt`] on standard input and output.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead as _, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};

use super::pace::Pace;
use super::use_threads;
use crate::domain::attempt::{
    AttemptFailure, AttemptMessage, AttemptSpec, CheckpointFile, JOURNAL_DIR, PAUSE, Phase,
    PortableCheckpoint, Step,
};
use crate::domain::redact::HiddenDirs;
use crate::domain::{ErrorCode, JobReport, JobSpec};
use crate::engine::{EngineError, PortableState};
use crate::pipeline::hub::cache_dirs;
use crate::pipeline::{self, Listener, PipelineError, Plan, Workspace};

/// Progress is told at most this often.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);
/// How long an earlier attempt's process is waited for.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);
/// How long until it is ended.
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
        ..Speaker::default()
    };
    let message = match work(&attempt, &mut speaker) {
        Ok(report) => AttemptMessage::Succeeded { report },
        // Nothing else stops a pass here.
        Err(PipelineError::Engine(EngineError::Stopped)) if is_paused.load(Ordering::Relaxed) => {
            AttemptMessage::Paused
        }
        Err(error) => {
            let (code, chain) = (error.code(), error.chain());
            #[expect(
                clippy::print_stderr,
                reason = "the worker writes it to the log; clients get the message without the server's directories"
            )]
            {
                eprintln!("attempt failed: {}: {chain}", code.as_str());
            }
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
    let _lock = lock_scratch(&attempt.scratch, attempt.attempt)?;
    let artifact = attempt.scratch.join("artifact");
    match &attempt.spec {
        JobSpec::Prune(spec) => {
            let plan = Plan::of_attempt(attempt, spec)?;
            let workspace = Workspace {
                artifact,
                journal: Some(attempt.scratch.join(JOURNAL_DIR)),
                is_portable: attempt.portable_checkpoints,
                received: attempt.received.clone(),
            };
            let manifest = pipeline::run(&plan, &workspace, speaker)?;
            Ok(JobReport::Prune(Box::new(manifest)))
        }
        JobSpec::Evaluate(spec) => {
            let report = pipeline::evaluate_job(attempt, spec, &artifact, speaker)?;
            Ok(JobReport::Evaluate(Box::new(report)))
        }
    }
}

/// Every directory that an error of an attempt may name.
fn hidden_dirs(attempt: &AttemptSpec) -> HiddenDirs {
    let configured = [
        (Some(&attempt.scratch), "the job's directory"),
        (attempt.models_dir.as_ref(), "the models directory"),
        (attempt.data_dir.as_ref(), "the data directory"),
        (Some(&attempt.bundled_dir), "the bundled files"),
        (Some(&attempt.scores_dir), "the kept scores"),
    ];
    let cache_dirs = cache_dirs();
    let artifacts = attempt.job_artifacts.values();
    let configured = configured
        .into_iter()
        .filter_map(|(dir, called)| Some((dir?, called)))
        .chain(artifacts.map(|dir| (dir, "the job's artifact")));
    let cached = cache_dirs.iter().map(|dir| (dir, "the cache"));
    configured
        .chain(cached)
        .fold(HiddenDirs::default(), |dirs, (dir, called)| {
            let dirs = dirs.with(dir, called);
            // Models are named by where symbolic links lead.
            match dir.canonicalize() {
                Ok(real) => dirs.with(&real, called),
                Err(_) => dirs,
            }
        })
}

/// Two attempts must never write into one directory, whatever became of the worker of the first. A child whose worker
/// died ends within moments, so a short wait is enough; one whose worker stands still may compute for hours, for nobody,
/// and is ended. The file says who that is.
fn lock_scratch(scratch: &Path, attempt: u32) -> Result<File, PipelineError> {
    fs::create_dir_all(scratch).map_err(|error| PipelineError::io("create", scratch, error))?;
    let path = scratch.join("lock");
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let opened = options.open(&path);
    let mut file = opened.map_err(|error| PipelineError::io("create", &path, error))?;
    let began = Instant::now();
    while file.try_lock().is_err() {
        if began.elapsed() > LOCK_PATIENCE {
            return Err(PipelineError::Refused {
                code: ErrorCode::Io,
                message: format!("another attempt still works in {}", scratch.display()),
            });
        }
        if began.elapsed() > HOLDER_PATIENCE {
            end_older(&path, attempt);
        }
        std::thread::sleep(LOCK_POLL);
    }
    let holder = format!("{attempt} {}\n", std::process::id());
    let noted = file
        .set_len(0)
        .and_then(|()| file.write_all(holder.as_bytes()));
    noted.map_err(|error| PipelineError::io("write", &path, error))?;
    Ok(file)
}

/// Ends the process of an attempt before this one: the database has given the job to us, so whatever it does is lost.
fn end_older(lock: &Path, attempt: u32) {
    let holder = fs::read_to_string(lock).unwrap_or_default();
    let Some((older, process)) = holder.trim().split_once(' ') else {
        return;
    };
    let is_older = older.parse().is_ok_and(|older: u32| older < attempt);
    let process = process.parse().ok().and_then(Pid::from_raw);
    if let Some(process) = process.filter(|_| is_older) {
        // It may have ended just now, which is as good.
        kill_process(process, Signal::KILL).ok();
    }
}

/// Standard input ends when the worker dies, however it dies; this process must not outlive it.
fn hear_the_worker(is_paused: Arc<AtomicBool>) {
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if line == PAUSE {
                is_paused.store(true, Ordering::Relaxed);
            }
        }
        std::process::exit(ORPHANED);
    });
}

/// Tells the worker what happens.
#[derive(Default)]
struct Speaker {
    is_paused: Arc<AtomicBool>,
    phase: Option<Phase>,
    last_progress: Option<Instant>,
    pace: Pace,
}

impl Listener for Speaker {
    fn phase(&mut self, phase: Phase) {
        self.phase = Some(phase);
        self.last_progress = None;
        self.pace = Pace::default();
        say(&AttemptMessage::Phase { phase });
    }

    fn progress(&mut self, step: Step) {
        let due = self
            .last_progress
            .is_none_or(|last| last.elapsed() >= PROGRESS_INTERVAL);
        if due || step.finished == step.total {
            let now = Instant::now();
            self.last_progress = Some(now);
            let eta_seconds = self.pace.eta_seconds(&step, now);
            let step = Step {
                eta_seconds,
                ..step
            };
            say(&AttemptMessage::Progress { step });
        }
    }

    fn should_pause(&self) -> bool {
        self.is_paused.load(Ordering::Relaxed)
    }

    fn resumed(&mut self, block: usize, blocks: usize) {
        say(&AttemptMessage::Resumed { block, blocks });
    }

    fn saved(&mut self, state: PortableState) {
        let files = state.files.into_iter();
        let files = files.map(|(name, sha256)| CheckpointFile { name, sha256 });
        let checkpoint = PortableCheckpoint {
            next_block: state.next_block,
            state: state.state,
            files: files.collect(),
        };
        say(&AttemptMessage::Saved { checkpoint });
    }
}

/// Without a worker to hear it there is no use in going on.
fn say(message: &AttemptMessage) {
    let mut stdout = std::io::stdout().lock();
    let said = serde_json::to_writer(&mut stdout, message).map_err(std::io::Error::from);
    if said
        .and_then(|()| stdout.write_all(b"\n"))
        .and_then(|()| stdout.flush())
        .is_err()
    {
        std::process::exit(ORPHANED);
    }
}
