//! `secateur run-attempt`: one attempt at a job, as a child process of a worker.
//!
//! Speaks the protocol of [`crate::domain::attempt`] on standard input and output.

mod gate;
mod limits;

use std::fs;
use std::io::{BufRead as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::cli::output::pace::Pace;
use crate::cli::use_threads;
use crate::domain::ErrorCode;
use crate::domain::attempt::{AttemptMessage, AttemptSpec, PAUSE, ResumeFile, ResumePoint};
use crate::domain::job::failure::AttemptFailure;
use crate::domain::job::progress::{Phase, Step};
use crate::domain::report::manifest::JobReport;
use crate::domain::spec::{JobSpec, PinnedCommit};
use crate::engine::{EngineError, SavedState};
use crate::pipeline::hub::use_token;
use crate::pipeline::{self, Listener, PipelineError, Plan, Workspace};
use crate::scratch::{ScratchDir, ScratchLock};
use gate::Gates;

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
    limits::confine(attempt.memory_bytes);
    if let Some(token) = attempt.hub_token.clone() {
        use_token(token);
    }
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
                message: pipeline::hidden_dirs(&attempt).hide(&chain),
                phase: speaker.phase,
                retryable: code.retryable(),
            };
            let outage = error.outage(&attempt.scratch);
            AttemptMessage::Failed { failure, outage }
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
                resume_state: Some(scratch.resume_state()),
                is_portable: attempt.has_portable_state,
                received: attempt.received.clone(),
            };
            let manifest = pipeline::prune_job(&plan, &workspace, speaker)?;
            Ok(JobReport::Prune(Box::new(manifest)))
        }
        JobSpec::Evaluate(spec) => {
            let report = pipeline::evaluate_job(attempt, spec, &artifact, speaker)?;
            Ok(JobReport::Evaluate(Box::new(report)))
        }
    }
}

/// Two attempts must never write into one directory, whatever became of the worker of the first. A child whose worker
/// died ends within moments; one whose worker stands still may compute for hours, for nobody, and is ended. The file says
/// who that is. A worker that stands still while it stores its artifact is waited for, as long as ours lets us: it has
/// lost the job and lets go when it moves again, and to fail meanwhile would use up the attempts of the job.
fn lock_scratch(scratch: &ScratchDir, attempt: u32) -> Result<ScratchLock, PipelineError> {
    let path = scratch.path();
    fs::create_dir_all(path).map_err(|error| PipelineError::io("create", path, error))?;
    let mut lock = wait_for_lock(scratch, attempt, || std::thread::sleep(LOCK_POLL))?;
    let noted = lock.note(attempt, Some(std::process::id()));
    noted.map_err(|error| PipelineError::io("write", &scratch.lock_path(), error))?;
    Ok(lock)
}

fn wait_for_lock(
    scratch: &ScratchDir,
    attempt: u32,
    mut pause: impl FnMut(),
) -> Result<ScratchLock, PipelineError> {
    let began = Instant::now();
    let (mut has_waited, mut is_told) = (false, false);
    let lock = loop {
        let lock = scratch.try_lock();
        if let Some(lock) =
            lock.map_err(|error| PipelineError::io("lock", &scratch.lock_path(), error))?
        {
            break lock;
        }
        has_waited = true;
        if began.elapsed() > HOLDER_PATIENCE {
            if !is_told {
                complain("another attempt still works in the job's directory, it is waited for");
                is_told = true;
            }
            end_older(scratch, attempt);
        }
        pause();
    };
    // Meanwhile the job may have gone on without us.
    if has_waited && scratch.holder().is_some_and(|(last, _)| last > attempt) {
        return Err(PipelineError::Refused {
            code: ErrorCode::Io,
            message: "a later attempt has worked in the job's directory".to_owned(),
        });
    }
    Ok(lock)
}

/// Ends the process of an attempt before this one: the database has given the job to us, so whatever it does is lost.
fn end_older(scratch: &ScratchDir, attempt: u32) {
    let Some((older, Some(process))) = scratch.holder() else {
        return;
    };
    let Some(process) = Pid::from_raw(process) else {
        return;
    };
    if older >= attempt {
        return;
    }
    // Opened before it is looked at: if the number goes to another process meanwhile, the signal goes nowhere.
    let Ok(handle) = pidfd_open(process, PidfdFlags::empty()) else {
        return;
    };
    if is_attempt_with(process, &scratch.lock_path()) {
        // It may have ended just now, which is as good.
        pidfd_send_signal(handle, Signal::KILL).ok();
    }
}

/// Whether the process is an attempt's and holds this very lock. The note alone says little: where it was written the
/// number may have meant a process of another container, and it may be another's by now.
fn is_attempt_with(process: Pid, lock: &Path) -> bool {
    let id = process.as_raw_nonzero().to_string();
    let command = fs::read(Path::new("/proc").join(&id).join("cmdline")).unwrap_or_default();
    let mut words = command.split(|byte| *byte == 0);
    let Ok(lock) = fs::metadata(lock) else {
        return false;
    };
    let inode = format!(":{}", lock.ino());
    // As `1: FLOCK ADVISORY WRITE 4711 08:01:42 0 EOF`. What the process has open is hidden from us.
    let is_held = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        matches!(fields[..], [_, "FLOCK", _, _, holder, file, ..] if holder == id && file.ends_with(&inode))
    };
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    words.any(|word| word == COMMAND.as_bytes()) && locks.lines().any(is_held)
}

/// For the worker's log.
fn complain(message: &str) {
    #[expect(
        clippy::print_stderr,
        reason = "the worker writes it to the log; clients get the message without the server's directories"
    )]
    {
        eprintln!("{message}");
    }
}

/// Standard input ends when the worker dies, however it dies; this process must not outlive it.
fn hear_the_worker(is_paused: Arc<AtomicBool>) {
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if line == PAUSE {
                is_paused.store(true, Ordering::Relaxed);
                complain("pausing after this block");
            }
        }
        std::process::exit(ORPHANED);
    });
}

/// Tells the worker what happens.
struct Speaker {
    is_paused: Arc<AtomicBool>,
    gates: Gates,
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
        self.gates.pass(phase.as_str());
    }

    fn progress(&mut self, step: Step) {
        let due = self
            .last_progress
            .is_none_or(|last| last.elapsed() >= PROGRESS_INTERVAL);
        if due || step.finished == step.total {
            let now = Instant::now();
            self.last_progress = Some(now);
            let step = self.pace.timed(step, now);
            say(&AttemptMessage::Progress { step });
        }
    }

    fn block_done(&mut self, blocks: usize) {
        self.gates.pass(&gate::of_block(blocks));
    }

    fn needs_state(&self, blocks: usize) -> bool {
        self.gates.stands_at(&gate::of_block(blocks))
    }

    fn should_pause(&self) -> bool {
        self.is_paused.load(Ordering::Relaxed)
    }

    fn resumed(&mut self, block: usize, blocks: usize) {
        say(&AttemptMessage::Resumed { block, blocks });
    }

    fn pinned(&mut self, commit: PinnedCommit) {
        say(&AttemptMessage::Pinned { commit });
    }

    fn saved(&mut self, state: SavedState) {
        let files = state.files.into_iter();
        let files = files.map(|(name, sha256)| ResumeFile { name, sha256 });
        let point = ResumePoint {
            next_block: state.next_block,
            state: state.state,
            files: files.collect(),
        };
        say(&AttemptMessage::Saved { point });
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

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::{Child, Command, Stdio};

    use super::*;

    /// A process with this word in its command, which holds the lock if it shall.
    fn process(word: &str, lock: Option<&Path>) -> Child {
        let mut command = match lock {
            Some(lock) => {
                let mut command = Command::new("flock");
                command.arg("--no-fork").arg(lock).arg("tail");
                command
            }
            None => Command::new("tail"),
        };
        command.args(["-f", "/dev/null", word]);
        command.stderr(Stdio::null()).spawn().unwrap()
    }

    #[test]
    fn only_the_process_of_an_earlier_attempt_at_this_directory_is_ended() {
        let directory = tempfile::tempdir().unwrap();
        let scratch = ScratchDir::at(directory.path().to_owned());
        let lock = scratch.lock_path();
        fs::write(&lock, "").unwrap();
        let end = |process: &Child, attempt| {
            fs::write(&lock, format!("1 {}\n", process.id())).unwrap();
            end_older(&scratch, attempt);
        };
        let held = || while fs::File::open(&lock).unwrap().try_lock().is_ok() {};
        let spare = |mut process: Child, attempt| {
            end(&process, attempt);
            assert!(process.try_wait().unwrap().is_none());
            process.kill().unwrap();
            process.wait().unwrap();
        };
        spare(process(COMMAND, None), 2);
        let other = process("other", Some(&lock));
        held();
        spare(other, 2);
        let same = process(COMMAND, Some(&lock));
        held();
        spare(same, 1);
        let mut older = process(COMMAND, Some(&lock));
        held();
        end(&older, 2);
        assert_eq!(older.wait().unwrap().signal(), Some(9));
    }

    #[test]
    fn an_attempt_that_waited_while_a_later_one_worked_ends() {
        let directory = tempfile::tempdir().unwrap();
        let scratch = ScratchDir::at(directory.path().to_owned());
        let mut first = Some(lock_scratch(&scratch, 1).unwrap());
        let waited = wait_for_lock(&scratch, 1, || {
            // As the worker of the second attempt writes it.
            fs::write(scratch.lock_path(), "2\n").unwrap();
            first.take();
        });
        assert!(waited.is_err());
        // Numbers that begin anew, as with an older database, keep nobody away.
        drop(lock_scratch(&scratch, 1).unwrap());
    }
}
