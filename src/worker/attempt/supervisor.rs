//! Supervises one attempt: starts its process, reads its messages, renews the lease, reports progress.

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
use crate::domain::attempt::{AttemptMessage, AttemptSpec};
use crate::domain::job::Job;
use crate::domain::job::attempt_end::AttemptEnd;
use crate::domain::job::failure::AttemptFailure;
use crate::domain::job::phases::PhaseTracker;
use crate::domain::job::progress::{Phase, Step};
use crate::domain::redact::HiddenDirs;
use crate::domain::report::manifest::JobReport;
use crate::domain::spec::{JobSpec, PinnedCommit};
use crate::domain::{ErrorCode, JobId};
use crate::instruments;
use crate::pipeline::hidden_dirs;
use crate::store::{Lease, LeaseCheck, Report};
use crate::traces;
use crate::worker::context::Context;
use crate::worker::lease::{
    CHECK_INTERVAL, LeaseClient, Limit, every, log_failed_call, until, while_leased,
};

/// The shortest time between two reports of progress.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);

/// How long a child may take to save its resume state and pause. Blocks of the largest models take minutes.
const PAUSE_TIMEOUT: Duration = Duration::from_mins(15);

/// How long it may at a stop of the worker, where heartbeats are this far apart: leases last for several, and what runs the
/// worker does not wait for long.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// The deadline of a job that was claimed just now. Both times are the database's: the job last changed when claimed.
pub(in crate::worker) fn deadline(job: &Job) -> Option<Instant> {
    let left = job.scheduling.deadline_at?.duration_since(job.updated_at);
    Some(Instant::now() + Duration::try_from(left).unwrap_or_default())
}

/// Runs one attempt; its process is gone when this returns. Gives the report of a success that is not published yet.
pub(in crate::worker) async fn supervise(
    context: &Context,
    job: &Job,
    device: &str,
    deadline: Option<Instant>,
    requests: broadcast::Receiver<JobId>,
) -> Result<JobReport, AttemptEnd> {
    let worker_id = context.worker_id();
    let span = tracing::info_span!("attempt", job.id = %job.id, job.attempt = job.attempt, worker.id = worker_id, device, trace.id = field::Empty);
    traces::link(&span, job.traceparent.as_deref());
    let work = async {
        let Some(lease) = Lease::of(job) else {
            return Err(AttemptEnd::Lost);
        };
        let Some(spec) = job.spec.known() else {
            let message = "the stored job cannot be read by this version".to_owned();
            let failure = AttemptFailure::new(ErrorCode::Internal, message, None);
            return Err(context.failed_end(job, failure));
        };
        let scratch = context.scratch(job.id);
        if let Err(error) = scratch.create() {
            return Err(context.failed_end(job, cannot_start(&error)));
        }
        let fetched = async {
            let located = sources::locate(context, spec, &scratch).await?;
            Ok((located, resume::receive(context, job, device).await))
        };
        let limit = Limit {
            deadline,
            phase: None,
        };
        let fetched = while_leased(context, job, limit, fetched).await?;
        let (job_artifacts, received) =
            fetched.map_err(|failure| context.failed_end(job, failure))?;
        let mut attempt = attempt_spec(context, job, spec, device, job_artifacts);
        attempt.received = received.as_ref().map(|received| received.directory.clone());
        let child = Child::spawn(&context.settings.program, &attempt).await;
        let child = child.map_err(|error| context.failed_end(job, cannot_start(&error)))?;
        tracing::info!("attempt started");
        let uploader = Uploader::start(context, job, received.as_ref());
        let supervisor =
            Supervisor::new(context, job, &attempt, deadline, lease, uploader.as_ref());
        let ended = supervisor.run(child, requests).await;
        if let Some(uploader) = uploader {
            uploader.end(ended.as_ref().err()).await;
        }
        if let Some(received) = received {
            drop(resume::remove(&received.directory).await);
        }
        ended
    };
    work.instrument(span).await
}

fn attempt_spec(
    context: &Context,
    job: &Job,
    spec: &JobSpec,
    device: &str,
    job_artifacts: BTreeMap<JobId, PathBuf>,
) -> AttemptSpec {
    let settings = &context.settings;
    AttemptSpec {
        job_id: job.id.to_string(),
        attempt: job.attempt,
        spec: spec.clone(),
        device: device.to_owned(),
        threads: settings.threads,
        scratch: context.scratch(job.id).path().to_owned(),
        models_dir: settings.models_dir.clone(),
        data_dir: settings.data_dir.clone(),
        bundled_dir: settings.bundled_dir.clone(),
        scores_dir: settings.scores_dir.clone(),
        job_artifacts,
        has_portable_state: context.parts.artifacts.is_shared(),
        received: None,
        memory_bytes: context.memory_bytes(device),
        hub_token: settings.pool.hub_token.clone(),
        commits: job.commits.clone(),
        submitted_at: Some(job.created_at),
    }
}

fn cannot_start(error: &io::Error) -> AttemptFailure {
    let code = if error.kind() == io::ErrorKind::StorageFull {
        ErrorCode::InsufficientDisk
    } else {
        ErrorCode::Io
    };
    AttemptFailure::new(code, format!("cannot start the attempt: {error}"), None)
}

/// Why the supervisor stops the child.
enum Stop {
    /// At once, with this end.
    Now(AttemptEnd),
    /// When it has saved its resume state.
    WhenSaved(Leave),
}

/// How a child leaves that may save its resume state first.
#[derive(Debug, Clone)]
struct Leave {
    /// When it is killed.
    until: Instant,
    /// The end.
    end: AttemptEnd,
}

/// What is known of the running attempt.
struct Supervisor<'c> {
    context: &'c Context,
    job: &'c Job,
    uploader: Option<&'c Uploader>,
    client: LeaseClient<'c>,
    phase: Option<(Phase, Instant)>,
    tracker: PhaseTracker,
    /// What no client hears of.
    hidden: HiddenDirs,
    /// When the job must be over.
    deadline: Option<Instant>,
    /// How the child leaves that was asked to save its resume state.
    leaving: Option<Leave>,
    /// The commits of the job's hub models.
    commits: Vec<PinnedCommit>,
    /// The newest step that is not reported yet.
    unreported: Option<Step>,
    /// The result that the child named last.
    result: Option<Result<JobReport, AttemptEnd>>,
}

impl<'c> Supervisor<'c> {
    fn new(
        context: &'c Context,
        job: &'c Job,
        attempt: &AttemptSpec,
        deadline: Option<Instant>,
        lease: Lease,
        uploader: Option<&'c Uploader>,
    ) -> Self {
        let reached = job
            .progress
            .as_ref()
            .map(|progress| progress.overall.percent);
        Self {
            context,
            job,
            tracker: PhaseTracker::new(&attempt.spec, reached.unwrap_or_default()),
            hidden: hidden_dirs(attempt),
            uploader,
            client: LeaseClient::new(context, lease),
            phase: None,
            deadline,
            leaving: None,
            commits: job.commits.clone(),
            unreported: None,
            result: None,
        }
    }

    /// Handles one event after the other, and waits for nothing else: a call to the database may take long.
    async fn run(
        mut self,
        mut child: Child,
        mut requests: broadcast::Receiver<JobId>,
    ) -> Result<JobReport, AttemptEnd> {
        // The process has closed its output, which may not be reported in full yet.
        let mut is_over = false;
        let mut is_stopping = false;
        let mut heartbeat = every(self.context.settings.pool.heartbeat_seconds);
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
                        if self.needs_log_tail() {
                            let tail = self.hidden.hide(&child.log_tail().await);
                            self.client.report(Report::LogTail(tail));
                        }
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
                    self.report_step();
                    None
                }
                _ = check.tick() => {
                    self.client.check();
                    None
                }
                request = requests.recv() => {
                    match request {
                        Ok(id) if id != self.job.id => {}
                        // Too many at once, or no sender is left: the database knows.
                        Ok(_) | Err(RecvError::Lagged(_) | RecvError::Closed) => self.client.check(),
                    }
                    None
                }
                () = until(self.deadline) => Some(Stop::Now(self.overdue())),
                () = until(self.leaving.as_ref().map(|leave| leave.until)) => {
                    Some(Stop::Now(self.end_of_leaving()))
                }
                () = self.context.stop.cancelled(), if !is_stopping => {
                    is_stopping = true;
                    let heartbeats = self.context.settings.pool.heartbeat_seconds;
                    Some(when_saved(AttemptEnd::Released, heartbeats.min(STOP_TIMEOUT)))
                }
            };
            match stop {
                None => {}
                // A result that was there before the request counts.
                Some(_) if is_over => return self.conclude(child).await,
                Some(Stop::WhenSaved(leave)) if self.saves_resume_state() => {
                    if self.leaving.is_none() {
                        child.pause().await;
                    }
                    let before = self.leaving.take();
                    let earlier = before.filter(|before| before.until <= leave.until);
                    self.leaving = Some(earlier.unwrap_or(leave));
                }
                Some(Stop::WhenSaved(Leave { end, .. }) | Stop::Now(end)) => {
                    child.kill().await;
                    return Err(end);
                }
            }
        }
    }

    fn hear(&mut self, message: AttemptMessage) -> Option<Stop> {
        match message {
            AttemptMessage::Phase { phase } => {
                self.leave_phase();
                let now = Instant::now();
                self.phase = Some((phase, now));
                self.unreported = None;
                // It is of the phase before.
                self.client.step(None);
                tracing::info!(phase = phase.as_str(), "phase began");
                let overall = self.tracker.enter(phase, now.into_std());
                self.client.report(Report::Phase(phase, overall));
                // Later phases save no resume state.
                let is_late = self.leaving.is_some() && !self.saves_resume_state();
                is_late.then(|| Stop::Now(self.end_of_leaving()))
            }
            AttemptMessage::Progress { step } => {
                self.unreported = Some(step);
                None
            }
            AttemptMessage::Resumed { block, blocks } => {
                tracing::info!(block, blocks, "attempt goes on from its resume state");
                self.client.report(Report::Resumed { block, blocks });
                None
            }
            AttemptMessage::Pinned { commit } => {
                self.commits.push(commit);
                self.client.report(Report::Pinned(self.commits.clone()));
                None
            }
            AttemptMessage::Saved { point } => {
                if let Some(uploader) = self.uploader {
                    uploader.offer(point);
                }
                None
            }
            AttemptMessage::Succeeded { report } => {
                self.result = Some(Ok(report));
                None
            }
            AttemptMessage::Paused => {
                self.result = Some(Err(self.end_of_leaving()));
                None
            }
            AttemptMessage::Failed { failure, outage } => {
                let end = match outage {
                    Some(outage) => self.context.waiting_end(self.job, failure, outage),
                    None => self.context.failed_end(self.job, failure),
                };
                self.result = Some(Err(end));
                None
            }
        }
    }

    /// Whether its log says more than its end does: one that waits tries again and again.
    fn needs_log_tail(&self) -> bool {
        !matches!(
            self.result,
            Some(
                Ok(_) | Err(AttemptEnd::Paused | AttemptEnd::Released | AttemptEnd::Waiting { .. })
            )
        )
    }

    /// The end of a child that was asked to save its resume state.
    fn end_of_leaving(&self) -> AttemptEnd {
        let leaving = self.leaving.as_ref();
        leaving.map_or(AttemptEnd::Paused, |leave| leave.end.clone())
    }

    /// Whether the phase saves a resume state; pruning does between blocks.
    fn saves_resume_state(&self) -> bool {
        matches!(self.phase, Some((Phase::Pruning, _)))
    }

    fn overdue(&self) -> AttemptEnd {
        let phase = self.phase.map(|(phase, _)| phase);
        self.context.overdue_end(self.job, phase)
    }

    fn leave_phase(&self) {
        if let Some((phase, since)) = self.phase {
            metrics::histogram!(instruments::JOB_PHASE_SECONDS, "phase" => phase.as_str())
                .record(since.elapsed().as_secs_f64());
        }
    }

    fn report_step(&mut self) {
        if let Some(step) = self.unreported.take() {
            let overall = self.tracker.advance(&step, Instant::now().into_std());
            self.client.step(Some((step, overall)));
        }
    }

    async fn conclude(self, child: Child) -> Result<JobReport, AttemptEnd> {
        self.leave_phase();
        let status = child.exit_status().await;
        self.result.unwrap_or_else(|| {
            let status = child::describe(&status);
            let message =
                format!("the process of the attempt ended without a result, with {status}");
            let phase = self.phase.map(|(phase, _)| phase);
            Err(self.context.crashed_end(self.job, phase, message))
        })
    }
}

fn stop_unless_valid(check: LeaseCheck) -> Option<Stop> {
    match check {
        LeaseCheck::Valid => None,
        LeaseCheck::CancelRequested => Some(Stop::Now(AttemptEnd::Cancelled)),
        LeaseCheck::PauseRequested => Some(when_saved(AttemptEnd::Paused, PAUSE_TIMEOUT)),
        LeaseCheck::Lost => Some(Stop::Now(AttemptEnd::Lost)),
    }
}

fn when_saved(end: AttemptEnd, within: Duration) -> Stop {
    let until = Instant::now() + within;
    Stop::WhenSaved(Leave { until, end })
}
