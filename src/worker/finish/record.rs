//! Records the end of an attempt, and cleans up after it.

use std::time::Duration;

use tokio::time::Instant;

use super::cleanup;
use super::publish::publish;
use crate::domain::ErrorCode;
use crate::domain::job::Job;
use crate::domain::job::attempt_end::{AttemptEnd, Settled};
use crate::domain::job::event::EventKind;
use crate::domain::job::retry::is_worth_a_retry;
use crate::domain::job::state::JobState;
use crate::domain::report::manifest::JobReport;
use crate::instruments;
use crate::store::Lease;
use crate::worker::context::Context;

/// The wait between two tries to record an end.
pub(super) const STORE_RETRY: Duration = Duration::from_secs(1);

/// How long a stopped pool goes on trying. Most failures of one statement are over by then, and most
/// supervisors wait as long for a process to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);

/// Why an attempt's end is not recorded.
#[derive(Debug)]
enum Unrecorded {
    /// The lease is lost.
    Lost,
    /// The pool was stopped while the database was away: the reaper finds the lease later.
    Stopped,
}

/// Ends an attempt: stores its files, then makes them visible in one transaction, then cleans up.
pub(in crate::worker) async fn record(
    context: &Context,
    job: &Job,
    deadline: Option<Instant>,
    ended: Result<JobReport, AttemptEnd>,
) {
    let Some(lease) = Lease::of(job) else { return };
    let published = match ended {
        Ok(report) => publish(context, job, &lease, deadline, report).await,
        Err(end) => Err(end),
    };
    let end = published.map_or_else(
        |end| end,
        |publication| AttemptEnd::Succeeded(Box::new(publication)),
    );
    match finish(context, &lease, &end).await {
        Ok(settled) => {
            log(job, &settled.event);
            count(&settled);
            // The files are kept where another attempt follows, or may follow.
            if settled.state.is_terminal() && !is_worth_a_retry(settled.error.as_ref()) {
                cleanup::clean_up(context, job, settled.state).await;
            }
        }
        Err(Unrecorded::Lost) => discard(context, job).await,
        Err(Unrecorded::Stopped) => context.lock.leave_behind(),
    }
}

/// Hours of work depend on this one statement: it is tried until the database answers, or the pool has stopped for a while.
async fn finish(context: &Context, lease: &Lease, end: &AttemptEnd) -> Result<Settled, Unrecorded> {
    if matches!(end, AttemptEnd::Lost) {
        return Err(Unrecorded::Lost);
    }
    let timeout = async {
        context.stop.cancelled().await;
        tokio::time::sleep(STOP_TIMEOUT).await;
    };
    tokio::select! {
        settled = finish_at_last(context, lease, end) => settled.ok_or(Unrecorded::Lost),
        () = timeout => Err(Unrecorded::Stopped),
    }
}

async fn finish_at_last(context: &Context, lease: &Lease, end: &AttemptEnd) -> Option<Settled> {
    loop {
        match context.parts.store.finish(lease, end, None).await {
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
    metrics::counter!(instruments::FENCED_WRITES).increment(1);
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
        | EventKind::Cancelling
        | EventKind::Deleted { .. } => {}
    }
}

/// Counts what was written, which is not always what the attempt wished.
pub(in crate::worker) fn count(settled: &Settled) {
    let outcome = settled.outcome.as_str();
    metrics::counter!(instruments::JOB_ATTEMPTS, "outcome" => outcome).increment(1);
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
    metrics::counter!(instruments::JOBS_FINISHED, "status" => status, "code" => code).increment(1);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::job::state::Action;
    use crate::worker::fixture::{build_artifact, claimed, context};

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
            let crashed = context.crashed_end(&job, None, "gone".to_owned());
            record(&context, &job, None, Err(crashed)).await;
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
        record(&unknown, &job, None, Ok(report)).await;
        let kept = artifacts.size(job.id, 1, "model.safetensors").await;
        assert_eq!(kept.unwrap(), Some(10));
    }
}
