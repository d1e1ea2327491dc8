//! Writes down how an attempt ended, and clears up after it.

use std::time::Duration;

use tokio::time::Instant;

use super::cleanup;
use super::publish::publish;
use crate::domain::ErrorCode;
use crate::domain::job::Job;
use crate::domain::job::event::EventKind;
use crate::domain::job::failure::AttemptFailure;
use crate::domain::job::failure::JobError;
use crate::domain::job::progress::Phase;
use crate::domain::job::state::JobState;
use crate::store::{Ending, Lease, Settled};
use crate::worker::attempt::Ended;
use crate::worker::context::{Context, jittered};
use crate::worker::sweep::retention;

/// The longest wait between two attempts.
const MAX_RETRY_DELAY: Duration = Duration::from_mins(5);

/// Wait before the database is asked again to take an ending.
pub(super) const STORE_RETRY: Duration = Duration::from_secs(1);

/// How long a pool that is stopped goes on asking. Most of what keeps one statement from working is over by then, and who
/// stops the process mostly waits for as long.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);

/// Why an attempt's end is not written down.
#[derive(Debug)]
enum Aborted {
    /// The lease is lost.
    Lost,
    /// The pool was stopped while the database was away: the sweep finds the lease when it is back.
    Stopped,
}

/// Brings an attempt to its end: files first, then the one transaction that makes them visible, then the clearing up.
pub(in crate::worker) async fn record(
    context: &Context,
    job: &Job,
    deadline: Option<Instant>,
    ended: Ended,
) {
    let Some(lease) = Lease::of(job) else { return };
    let settled = match ending(context, job, &lease, deadline, ended).await {
        Ok(ending) => finish(context, &lease, &ending).await,
        Err(aborted) => Err(aborted),
    };
    match settled {
        Ok(settled) => {
            log(job, &settled.event);
            count(&settled);
            // Kept for the next attempt, if there will be one, or may be.
            if settled.state.is_terminal() && !retention::is_worth_a_retry(settled.error.as_ref()) {
                cleanup::clean_up(context, job, settled.state).await;
            }
        }
        Err(Aborted::Lost) => discard(context, job).await,
        Err(Aborted::Stopped) => context.lock.leave_behind(),
    }
}

async fn ending(
    context: &Context,
    job: &Job,
    lease: &Lease,
    deadline: Option<Instant>,
    mut ended: Ended,
) -> Result<Ending, Aborted> {
    let failure = |failure| JobError {
        failure,
        attempt: job.attempt,
    };
    loop {
        return match ended {
            Ended::Succeeded(report) => {
                match publish(context, job, lease, deadline, report).await {
                    Ok(publication) => Ok(Ending::Succeeded(Box::new(publication))),
                    // In one of the other ways.
                    Err(otherwise) => {
                        ended = otherwise;
                        continue;
                    }
                }
            }
            Ended::Failed(error) => Ok(failed(context, job, failure(error), false)),
            Ended::Crashed { message, phase } => {
                let error = JobError::crash(job.attempt, phase, message);
                Ok(failed(context, job, error, true))
            }
            Ended::Cancelled => Ok(Ending::Cancelled),
            Ended::Paused => Ok(Ending::Paused),
            Ended::Overdue { phase } => Ok(Ending::Failed {
                error: failure(overdue(phase)),
                crashed: false,
            }),
            Ended::Stopped => Ok(Ending::Released),
            Ended::Lost => Err(Aborted::Lost),
        };
    }
}

fn overdue(phase: Option<Phase>) -> AttemptFailure {
    let code = ErrorCode::DeadlineExceeded;
    AttemptFailure {
        code,
        message: "the job was running at its deadline".to_owned(),
        phase,
        retryable: code.retryable(),
    }
}

/// Another attempt where one may help and is left.
fn failed(context: &Context, job: &Job, error: JobError, crashed: bool) -> Ending {
    if error.failure.retryable && !job.is_last_attempt() {
        Ending::Retry {
            error,
            crashed,
            delay: jittered(retry_delay(
                context.settings.retry_delay,
                job.failed_attempts,
            )),
        }
    } else {
        Ending::Failed { error, crashed }
    }
}

/// The first delay, doubled with each failed attempt, at most [`MAX_RETRY_DELAY`].
fn retry_delay(first: Duration, failed_attempts: u32) -> Duration {
    first
        .saturating_mul(2_u32.saturating_pow(failed_attempts))
        .min(MAX_RETRY_DELAY)
}

/// Hours of work hang on this one statement, so it is tried until the database answers, or the pool was stopped a while ago.
async fn finish(context: &Context, lease: &Lease, ending: &Ending) -> Result<Settled, Aborted> {
    let timeout = async {
        context.stop.cancelled().await;
        tokio::time::sleep(STOP_TIMEOUT).await;
    };
    tokio::select! {
        settled = finish_at_last(context, lease, ending) => settled.ok_or(Aborted::Lost),
        () = timeout => Err(Aborted::Stopped),
    }
}

async fn finish_at_last(context: &Context, lease: &Lease, ending: &Ending) -> Option<Settled> {
    loop {
        match context.parts.store.finish(lease, ending, None).await {
            Ok(settled) => return settled,
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, job.id = %lease.job_id, "cannot write the end of an attempt");
            }
        }
        tokio::time::sleep(STORE_RETRY).await;
    }
}

/// Nothing was written, so nothing of this attempt may remain, unless it was this very attempt that succeeded: a
/// commit whose answer was lost is tried again, and the second time there is no lease any more.
async fn discard(context: &Context, job: &Job) {
    let statuses = context.parts.store.list_statuses(&[job.id]).await;
    let status = statuses.map(|statuses| statuses.get(&job.id).copied());
    let result = match status {
        Ok(Some(now)) if now.state == JobState::Succeeded && now.attempt == job.attempt => return,
        Ok(Some(_)) => {
            let artifacts = &context.parts.artifacts;
            artifacts.delete_attempt(job.id, job.attempt).await
        }
        // What is left then is for the sweep; an unknown job's files have a grace.
        Ok(None) | Err(_) => Ok(()),
    };
    metrics::counter!("secateur_fenced_writes_total").increment(1);
    tracing::warn!(job.id = %job.id, job.attempt = job.attempt, "lease lost, attempt discarded");
    if let Err(error) = result {
        let error = &error as &dyn std::error::Error;
        tracing::warn!(error, job.id = %job.id, "cannot remove what a lost attempt left, the sweep will");
    }
}

fn log(job: &Job, end: &EventKind) {
    let (id, attempt) = (job.id, job.attempt);
    match end {
        EventKind::Succeeded { digest } => {
            let digest = digest.as_deref();
            tracing::info!(job.id = %id, job.attempt = attempt, digest, "job succeeded");
        }
        EventKind::Failed { error } => {
            let (code, message) = (error.failure.code.as_str(), error.failure.message.as_str());
            tracing::error!(job.id = %id, job.attempt = attempt, code, message, "job failed");
        }
        EventKind::Retrying { error, run_after } => {
            let (code, message) = (error.failure.code.as_str(), error.failure.message.as_str());
            tracing::warn!(job.id = %id, job.attempt = attempt, code, message, %run_after, "attempt failed, will retry");
        }
        EventKind::Paused => {
            tracing::info!(job.id = %id, job.attempt = attempt, "job paused");
        }
        EventKind::Cancelled => {
            tracing::info!(job.id = %id, job.attempt = attempt, "job cancelled");
        }
        EventKind::Released => {
            tracing::info!(job.id = %id, job.attempt = attempt, "attempt given back");
        }
        // These end no attempt.
        EventKind::Queued
        | EventKind::Started { .. }
        | EventKind::Phase { .. }
        | EventKind::Resumed { .. }
        | EventKind::Pausing
        | EventKind::Continued
        | EventKind::Retried
        | EventKind::Cancelling => {}
    }
}

/// Counts what was written, which is not always what the attempt wished.
pub(in crate::worker) fn count(settled: &Settled) {
    let outcome = settled.outcome.as_str();
    metrics::counter!("secateur_job_attempts_total", "outcome" => outcome).increment(1);
    let code = match settled.state {
        JobState::Queued
        | JobState::Running
        | JobState::Pausing
        | JobState::Paused
        | JobState::Cancelling => return,
        JobState::Succeeded => "none",
        JobState::Cancelled => ErrorCode::Cancelled.as_str(),
        JobState::Failed => settled
            .error
            .as_ref()
            .map_or(ErrorCode::Internal, |error| error.failure.code)
            .as_str(),
    };
    let status = settled.state.as_str();
    metrics::counter!("secateur_jobs_finished_total", "status" => status, "code" => code)
        .increment(1);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::job::state::Action;
    use crate::worker::fixture::{build_artifact, claimed, context};

    #[test]
    fn the_wait_doubles_up_to_a_limit() {
        let first = Duration::from_secs(5);
        assert_eq!(
            [0, 1, 2].map(|failed| retry_delay(first, failed).as_secs()),
            [5, 10, 20]
        );
        assert_eq!(retry_delay(first, u32::MAX), MAX_RETRY_DELAY);
    }

    #[tokio::test]
    async fn what_is_counted_is_what_was_written() {
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        let _guard = metrics::set_default_local_recorder(&recorder);
        let home = tempfile::tempdir().unwrap();
        let context = context(home.path()).await;
        let job = claimed(&context).await;
        let asked = context.parts.store.request(job.id, Action::Cancel, None);
        asked.await.unwrap();
        // The second time there is no lease any more.
        for _ in 0..2 {
            let crashed = Ended::Crashed {
                message: "gone".to_owned(),
                phase: None,
            };
            record(&context, &job, None, crashed).await;
        }
        let counted = recorder.handle().render();
        assert!(
            counted.contains(r#"secateur_job_attempts_total{outcome="cancelled"} 1"#),
            "{counted}"
        );
        assert!(
            counted
                .contains(r#"secateur_jobs_finished_total{status="cancelled",code="cancelled"} 1"#),
            "{counted}"
        );
        assert!(
            counted.contains("secateur_fenced_writes_total 1"),
            "{counted}"
        );
        assert!(!counted.contains("crashed"), "{counted}");
    }

    #[tokio::test]
    async fn an_artifact_outlives_a_database_that_does_not_know_its_job() {
        let home = tempfile::tempdir().unwrap();
        let known = context(home.path()).await;
        let job = claimed(&known).await;
        let (directory, report) = build_artifact(&known, &job);
        let artifacts = &known.parts.artifacts;
        artifacts.publish(job.id, 1, &directory, &[]).await.unwrap();
        let other = tempfile::tempdir().unwrap();
        let mut unknown = context(other.path()).await;
        unknown.parts.artifacts = std::sync::Arc::clone(artifacts);
        unknown.settings.scratch_dir = known.settings.scratch_dir.clone();
        build_artifact(&unknown, &job);
        record(&unknown, &job, None, Ended::Succeeded(report)).await;
        let kept = artifacts.size(job.id, 1, "model.safetensors").await;
        assert_eq!(kept.unwrap(), Some(10));
    }
}
