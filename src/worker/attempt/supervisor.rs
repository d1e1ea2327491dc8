//! One attempt, from the start of its process to its end: listens to it, renews the lease, passes its progress on.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::broadcast::{self, error::RecvError};
use tokio::time::Instant;
use tracing::{Instrument as _, field};

use super::child::{self, Child};
use super::upload::Uploader;
use super::{resume, sources};
use crate::domain::ErrorCode;
use crate::domain::JobId;
use crate::domain::attempt::{AttemptMessage, AttemptSpec};
use crate::domain::job::Job;
use crate::domain::job::failure::AttemptFailure;
use crate::domain::job::progress::{Phase, Step};
use crate::domain::report::manifest::JobReport;
use crate::store::{Lease, LeaseCheck, Report};
use crate::traces;
use crate::worker::context::Context;
use crate::worker::lease::{
    CHECK_INTERVAL, LeaseClient, Limit, every, log_failed_call, until, while_leased,
};

/// Progress is written down at most this often.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);

/// How long a child may take to its next checkpoint when it shall pause. Blocks of the largest models take minutes.
const PAUSE_TIMEOUT: Duration = Duration::from_mins(15);

/// How an attempt's process ended.
#[derive(Debug)]
pub(in crate::worker) enum Ended {
    /// Its artifact lies in the scratch directory.
    Succeeded(JobReport),
    /// It said why, or could not be started.
    Failed(AttemptFailure),
    /// Without a last word.
    Crashed {
        message: String,
        phase: Option<Phase>,
    },
    /// Killed: the job shall be cancelled.
    Cancelled,
    /// At a checkpoint, or killed where there is none: the job shall pause.
    Paused,
    /// Killed: the job is past its deadline.
    Overdue { phase: Option<Phase> },
    /// Killed: the worker stops.
    Stopped,
    /// Killed: the lease is gone.
    Lost,
}

/// When a job that was claimed just now must be over. Both times are the database's: the job changed last when it was
/// claimed.
pub(in crate::worker) fn deadline(job: &Job) -> Option<Instant> {
    let left = job.scheduling.deadline_at?.duration_since(job.updated_at);
    Some(Instant::now() + Duration::try_from(left).unwrap_or_default())
}

/// Runs one attempt. When this returns, its process does not exist any more.
pub(in crate::worker) async fn supervise(
    context: &Context,
    job: &Job,
    device: &str,
    deadline: Option<Instant>,
    asked: broadcast::Receiver<JobId>,
) -> Ended {
    let worker_id = context.worker_id();
    let span = tracing::info_span!("attempt", job.id = %job.id, job.attempt = job.attempt, worker.id = worker_id, device, trace.id = field::Empty);
    traces::link(&span, job.traceparent.as_deref());
    let work = async {
        let Some(lease) = Lease::of(job) else {
            return Ended::Lost;
        };
        let scratch = context.scratch(job.id);
        if let Err(error) = create_directory(scratch.clone()).await {
            return Ended::Failed(cannot_start(&error));
        }
        let fetched = async {
            let located = sources::locate(context, &job.spec, &scratch).await?;
            Ok((located, resume::receive(context, job).await))
        };
        let limit = Limit {
            deadline,
            phase: None,
        };
        let (job_artifacts, received) = match while_leased(context, &lease, limit, fetched).await {
            Ok(Ok(fetched)) => fetched,
            Ok(Err(failure)) => return Ended::Failed(failure),
            Err(ended) => return ended,
        };
        let mut spec = attempt_spec(context, job, device, job_artifacts);
        spec.received = received.as_ref().map(|received| received.directory.clone());
        let started = Child::spawn(&context.settings.program, &spec).await;
        match started {
            Ok(child) => {
                tracing::info!("attempt started");
                let uploader = Uploader::start(context, job, received.as_ref());
                let watch = Watch::new(context, deadline, lease, uploader.as_ref());
                let ended = watch.run(child, asked).await;
                if let Some(uploader) = uploader {
                    uploader.end(&ended).await;
                }
                if let Some(received) = received {
                    drop(resume::remove(&received.directory).await);
                }
                ended
            }
            Err(error) => Ended::Failed(cannot_start(&error)),
        }
    };
    work.instrument(span).await
}

fn attempt_spec(
    context: &Context,
    job: &Job,
    device: &str,
    job_artifacts: BTreeMap<JobId, PathBuf>,
) -> AttemptSpec {
    let settings = &context.settings;
    AttemptSpec {
        job_id: job.id.to_string(),
        attempt: job.attempt,
        spec: job.spec.clone(),
        device: device.to_owned(),
        threads: settings.threads,
        scratch: context.scratch(job.id),
        models_dir: settings.models_dir.clone(),
        data_dir: settings.data_dir.clone(),
        bundled_dir: settings.bundled_dir.clone(),
        scores_dir: settings.scores_dir.clone(),
        job_artifacts,
        portable_checkpoints: context.parts.artifacts.is_shared(),
        received: None,
    }
}

/// Readable by its owner only: it may hold a gated model.
async fn create_directory(path: PathBuf) -> io::Result<()> {
    tokio::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .await
}

fn cannot_start(error: &io::Error) -> AttemptFailure {
    let code = if error.kind() == io::ErrorKind::StorageFull {
        ErrorCode::InsufficientDisk
    } else {
        ErrorCode::Io
    };
    AttemptFailure {
        code,
        message: format!("cannot start the attempt: {error}"),
        phase: None,
        retryable: code.retryable(),
    }
}

/// Why the loop shall end before the child does.
enum Stop {
    /// At once.
    Now(Ended),
    /// When the child is at its next checkpoint: the job shall pause.
    AtCheckpoint,
}

/// What is known of the running attempt.
struct Watch<'c> {
    context: &'c Context,
    uploader: Option<&'c Uploader>,
    /// To the database.
    client: LeaseClient<'c>,
    job_id: JobId,
    phase: Option<(Phase, Instant)>,
    /// When the job must be over.
    deadline: Option<Instant>,
    /// Until when a child that shall pause is waited for.
    pausing_until: Option<Instant>,
    /// The newest step that was not written down yet.
    unwritten: Option<Step>,
    last_word: Option<Ended>,
}

impl<'c> Watch<'c> {
    fn new(
        context: &'c Context,
        deadline: Option<Instant>,
        lease: Lease,
        uploader: Option<&'c Uploader>,
    ) -> Self {
        Self {
            context,
            uploader,
            job_id: lease.job_id,
            client: LeaseClient::new(context, lease),
            phase: None,
            deadline,
            pausing_until: None,
            unwritten: None,
            last_word: None,
        }
    }

    /// Nothing in here waits but for the next thing to happen: a call to the database may take long.
    async fn run(mut self, mut child: Child, mut asked: broadcast::Receiver<JobId>) -> Ended {
        // The process has said everything, and only has to be written down.
        let mut is_over = false;
        let mut heartbeat = every(self.context.settings.heartbeat);
        let mut flush = every(PROGRESS_INTERVAL);
        let mut check = every(CHECK_INTERVAL);
        loop {
            if is_over && self.client.is_flushed() {
                return self.conclude(child).await;
            }
            let stop = tokio::select! {
                message = child.next_message(), if !is_over && self.client.has_capacity() => {
                    if let Some(message) = message {
                        self.hear(message)
                    } else {
                        is_over = true;
                        None
                    }
                }
                (call, answer) = self.client.answer() => match answer {
                    Ok(check) => stop_unless_valid(check),
                    Err(error) => {
                        log_failed_call(call, &error, &mut heartbeat);
                        None
                    }
                },
                _ = heartbeat.tick() => {
                    self.client.renew();
                    None
                }
                _ = flush.tick() => {
                    self.flush();
                    None
                }
                _ = check.tick() => {
                    self.client.check();
                    None
                }
                about = asked.recv() => {
                    match about {
                        Ok(id) if id != self.job_id => {}
                        // Too many at once, or nobody left to send any: the database knows.
                        Ok(_) | Err(RecvError::Lagged(_) | RecvError::Closed) => self.client.check(),
                    }
                    None
                }
                () = until(self.deadline) => Some(Stop::Now(self.overdue())),
                () = until(self.pausing_until) => Some(Stop::Now(Ended::Paused)),
                () = self.context.stop.cancelled() => Some(Stop::Now(Ended::Stopped)),
            };
            match stop {
                None => {}
                // What is finished before its worker hears of anything counts.
                Some(_) if is_over => return self.conclude(child).await,
                Some(Stop::AtCheckpoint) if self.pausing_until.is_some() => {}
                Some(Stop::AtCheckpoint) if self.has_checkpoints() => {
                    self.pausing_until = Some(Instant::now() + PAUSE_TIMEOUT);
                    child.pause().await;
                }
                Some(Stop::AtCheckpoint) => {
                    child.kill().await;
                    return Ended::Paused;
                }
                Some(Stop::Now(ended)) => {
                    child.kill().await;
                    return ended;
                }
            }
        }
    }

    fn hear(&mut self, message: AttemptMessage) -> Option<Stop> {
        match message {
            AttemptMessage::Phase { phase } => {
                self.leave_phase();
                self.phase = Some((phase, Instant::now()));
                self.unwritten = None;
                // Of the phase before.
                self.client.step(None);
                tracing::info!(phase = phase.as_str(), "phase began");
                self.client.report(Report::Phase(phase));
                // The last checkpoint is behind it.
                let is_late = self.pausing_until.is_some() && !self.has_checkpoints();
                is_late.then_some(Stop::Now(Ended::Paused))
            }
            AttemptMessage::Progress { step } => {
                self.unwritten = Some(step);
                None
            }
            AttemptMessage::Resumed { block, blocks } => {
                tracing::info!(block, blocks, "attempt goes on from a checkpoint");
                self.client.report(Report::Resumed { block, blocks });
                None
            }
            AttemptMessage::Saved { checkpoint } => {
                if let Some(uploader) = self.uploader {
                    uploader.offer(checkpoint);
                }
                None
            }
            AttemptMessage::Succeeded { report } => {
                self.last_word = Some(Ended::Succeeded(report));
                None
            }
            AttemptMessage::Paused => {
                self.last_word = Some(Ended::Paused);
                None
            }
            AttemptMessage::Failed { failure } => {
                self.last_word = Some(Ended::Failed(failure));
                None
            }
        }
    }

    /// Pruning has one after each block.
    fn has_checkpoints(&self) -> bool {
        matches!(self.phase, Some((Phase::Pruning, _)))
    }

    fn overdue(&self) -> Ended {
        Ended::Overdue {
            phase: self.phase.map(|(phase, _)| phase),
        }
    }

    fn leave_phase(&self) {
        if let Some((phase, since)) = self.phase {
            metrics::histogram!("secateur_job_phase_duration_seconds", "phase" => phase.as_str())
                .record(since.elapsed().as_secs_f64());
        }
    }

    fn flush(&mut self) {
        if let Some(step) = self.unwritten.take() {
            self.client.step(Some(step));
        }
    }

    async fn conclude(self, child: Child) -> Ended {
        self.leave_phase();
        let status = child.exit_status().await;
        self.last_word.unwrap_or_else(|| Ended::Crashed {
            message: format!(
                "the process of the attempt ended without a result, with {}",
                child::describe(&status)
            ),
            phase: self.phase.map(|(phase, _)| phase),
        })
    }
}

fn stop_unless_valid(check: LeaseCheck) -> Option<Stop> {
    match check {
        LeaseCheck::Valid => None,
        LeaseCheck::CancelRequested => Some(Stop::Now(Ended::Cancelled)),
        LeaseCheck::PauseRequested => Some(Stop::AtCheckpoint),
        LeaseCheck::Lost => Some(Stop::Now(Ended::Lost)),
    }
}
