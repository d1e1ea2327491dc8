//! The process that runs one attempt, as its worker sees it.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;
use tracing::Instrument;

use crate::domain::attempt::{AttemptMessage, AttemptSpec, PAUSE};

/// How long a child may live on after it has closed its output.
const EXIT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the end of the log of a child that has closed its output may take.
const LOG_TIMEOUT: Duration = Duration::from_secs(1);

/// The lines of the log that are kept with a failed attempt, and the characters of each.
const TAIL_LINES: usize = 20;
const TAIL_LINE_CHARS: usize = 500;

/// The beginnings of the variables that may hold the keys to the database, to the artifacts, to where traces go, and to the
/// hub: its token is handed over with the work.
const KEYS: [&str; 5] = ["SECATEUR_DATABASE_URL", "PG", "AWS_", "OTEL_", HUB_TOKEN];

const HUB_TOKEN: &str = "HF_TOKEN";

/// The name of a file is no key.
const HUB_TOKEN_PATH: &str = "HF_TOKEN_PATH";

/// A started `run-attempt`, in a process group of its own.
pub(super) struct Child {
    process: tokio::process::Child,
    messages: Lines<BufReader<ChildStdout>>,
    /// Its end tells the child that the worker is gone.
    stdin: ChildStdin,
    /// Reads what the child logs.
    log: JoinHandle<()>,
    tail: LogTail,
}

/// The last lines of a log.
type LogTail = Arc<Mutex<VecDeque<String>>>;

impl Child {
    /// Starts the program and hands it its work.
    pub(super) async fn spawn(program: &Path, spec: &AttemptSpec) -> io::Result<Self> {
        let mut command = Command::new(program);
        // It reads files of unknown origin, and needs neither the database nor the bucket.
        for (name, value) in std::env::vars_os() {
            let is_key = KEYS.iter().any(|key| is_of(&name, key)) && !is_of(&name, HUB_TOKEN_PATH);
            // The library of the hub takes an empty variable for a value.
            if is_key || (value.is_empty() && is_of(&name, "HF_")) {
                command.env_remove(name);
            }
        }
        let mut process = command
            .arg("run-attempt")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let no_pipe = || io::Error::other("the child has no pipe");
        let mut stdin = process.stdin.take().ok_or_else(no_pipe)?;
        let stdout = process.stdout.take().ok_or_else(no_pipe)?;
        let stderr = process.stderr.take().ok_or_else(no_pipe)?;
        let tail = LogTail::default();
        let lines = log_lines(BufReader::new(stderr), Arc::clone(&tail));
        let log = tokio::spawn(lines.in_current_span());

        let mut line = serde_json::to_vec(spec)?;
        line.push(b'\n');
        // A child that dies at once closes the pipe; its exit status says more than this error would.
        if let Err(error) = stdin.write_all(&line).await {
            tracing::debug!(%error, "the child did not read its work");
        }
        Ok(Self {
            process,
            messages: BufReader::new(stdout).lines(),
            stdin,
            log,
            tail,
        })
    }

    /// The next message; `None` when there will be no more. Safe to drop while waiting.
    pub(super) async fn next_message(&mut self) -> Option<AttemptMessage> {
        loop {
            let line = match self.messages.next_line().await {
                Ok(line) => line?,
                Err(error) => {
                    tracing::warn!(%error, "cannot read from the child");
                    return None;
                }
            };
            match serde_json::from_str(&line) {
                Ok(message) => return Some(message),
                Err(error) => tracing::warn!(%error, "the child wrote a line that is no message"),
            }
        }
    }

    /// The last lines that the child logged, once it has closed its output. What it started may hold on to the log.
    pub(super) async fn log_tail(&mut self) -> String {
        drop(tokio::time::timeout(LOG_TIMEOUT, &mut self.log).await);
        let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        tail.iter().cloned().collect::<Vec<_>>().join("\n")
    }

    /// Asks the child to stop when its next resume state is saved.
    pub(super) async fn pause(&mut self) {
        let line = format!("{PAUSE}\n");
        // One that cannot be told has ended, or will be ended for not listening.
        if let Err(error) = self.stdin.write_all(line.as_bytes()).await {
            tracing::debug!(%error, "the child cannot be told to pause");
        }
    }

    /// Waits for the end of a child that has closed its output.
    pub(super) async fn exit_status(mut self) -> io::Result<ExitStatus> {
        match tokio::time::timeout(EXIT_TIMEOUT, self.process.wait()).await {
            Ok(status) => status,
            Err(_elapsed) => {
                self.signal_group();
                self.process.wait().await
            }
        }
    }

    /// Ends the child and everything it started. Its memory is free when this returns.
    pub(super) async fn kill(mut self) {
        self.signal_group();
        if let Err(error) = self.process.wait().await {
            tracing::error!(%error, "cannot wait for a killed child");
        }
    }

    fn signal_group(&self) {
        // No id = it was already waited for.
        let Some(pid) = self
            .process
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw)
        else {
            return;
        };
        if let Err(error) = kill_process_group(pid, Signal::KILL) {
            tracing::warn!(%error, "cannot kill a child");
        }
    }
}

/// Logs what the child writes, to its end: a child whose output is not read would die of its next line.
async fn log_lines(mut stderr: BufReader<ChildStderr>, tail: LogTail) {
    let mut line = Vec::new();
    loop {
        line.clear();
        match stderr.read_until(b'\n', &mut line).await {
            Ok(0) => return,
            Ok(_) => {
                let text = String::from_utf8_lossy(line.trim_ascii_end());
                tracing::info!(target: "secateur::attempt", "{text}");
                let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
                // Names from files of unknown origin: not every database takes a NUL.
                let shown = text.chars().filter(|c| *c == '\t' || !c.is_control());
                tail.push_back(shown.take(TAIL_LINE_CHARS).collect());
                if tail.len() > TAIL_LINES {
                    tail.pop_front();
                }
            }
            Err(error) => return tracing::warn!(%error, "cannot read what the child logs"),
        }
    }
}

fn is_of(name: &OsStr, beginning: &str) -> bool {
    name.as_bytes().starts_with(beginning.as_bytes())
}

/// How a process ended, in words.
pub(super) fn describe(status: &io::Result<ExitStatus>) -> String {
    use std::os::unix::process::ExitStatusExt;
    match status {
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => format!("exit status {code}"),
            (None, Some(9)) => "signal 9 (killed, perhaps for want of memory)".to_owned(),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => "an unknown status".to_owned(),
        },
        Err(error) => format!("an unknown status: {error}"),
    }
}
