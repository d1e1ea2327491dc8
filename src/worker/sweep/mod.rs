//! Looks over what dead workers left behind: their scratch directories, their unfinished artifacts; and forgets in the
//! database what is old.

pub(super) mod retention;
mod storage;

use std::collections::HashSet;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::attempt::discard;
use super::context::Context;
use super::finish;
use crate::artifacts::{ArtifactError, Stored};
use crate::domain::JobId;
use crate::domain::job::retry::jittered;
use crate::domain::job::state::JobState;
use crate::scratch;
use crate::store::{JobStatus, StoreError};
use retention::RETENTION;

/// How long it is known that a job was deleted.
const DELETED_KNOWN: Duration = Duration::from_hours(30 * 24);
/// How far back deletions are looked for: longer than a round ever takes.
const DELETED_LOOK: Duration = Duration::from_hours(24);
/// How long an artifact is not looked at again: less than the files of an unknown job are kept.
const SETTLED_KNOWN: Duration = Duration::from_hours(24);
/// Jobs that are looked at together.
const BATCH: usize = 500;
/// How long messages to webhooks are kept after they were written.
const DELIVERY_LOG: Duration = Duration::from_hours(30 * 24);

/// The rounds between two listings of a bucket: they are slow, and cost money.
const BUCKET_ROUNDS: u32 = 20;

/// The rounds between two looks at what is stored: a cache may have many files.
const STORAGE_ROUNDS: u32 = 20;

/// How long a lost worker is listed.
const LOST_SHOWN: Duration = Duration::from_hours(1);

/// Part of a sweep did not work; the next one tries again.
#[derive(Debug, thiserror::Error)]
pub(super) enum SweepError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Artifacts(#[from] ArtifactError),
    #[error("cannot look over the data directory")]
    Io(#[from] io::Error),
}

/// Looks over everything again and again.
#[derive(Debug, Default)]
pub(super) struct Sweeper {
    /// Unknown jobs that the log was told of.
    unknown: HashSet<JobId>,
    /// Succeeded jobs of which nothing but the artifact was found. Only a deletion changes that, or a process with another
    /// database that marks them as unknown.
    settled: HashSet<JobId>,
    /// When those were forgotten last.
    settled_since: Timestamp,
    rounds: u32,
}

impl Sweeper {
    /// Until the pool stops, wherever a round is then: a bucket that is away is tried for minutes.
    pub(super) async fn run(mut self, context: Arc<Context>) {
        context
            .stop
            .run_until_cancelled(self.go_round(&context))
            .await;
    }

    async fn go_round(&mut self, context: &Context) {
        loop {
            self.sweep(context).await;
            tokio::time::sleep(jittered(context.settings.pool.sweep_seconds)).await;
        }
    }

    /// One round. Its parts do not depend on each other.
    async fn sweep(&mut self, context: &Context) {
        if self.rounds.is_multiple_of(STORAGE_ROUNDS) {
            log_failure("cache of the hub", storage::bound(context).await);
            log_failure("storage", storage::measure(context).await);
        }
        log_failure("workers", forget_workers(context).await);
        log_failure("scratch", self.remove_scratch(context).await);
        log_failure("artifacts", self.remove_attempts(context).await);
        log_failure("idempotency keys", forget_keys(context).await);
        log_failure("deleted jobs", forget_deleted(context).await);
        log_failure("webhook deliveries", forget_deliveries(context).await);
    }

    /// Removes the scratch directories of jobs that no attempt will work on again.
    async fn remove_scratch(&mut self, context: &Context) -> Result<(), SweepError> {
        finish::finish_removals(&context.settings.scratch_dir).await?;
        let (ids, _removed) = scratch::list(&context.settings.scratch_dir)?;
        let statuses = context.parts.store.list_statuses(&ids).await?;
        let deleted = context.parts.store.list_deleted(&ids).await?;
        for id in ids {
            let status = statuses.get(&id).copied();
            let is_deleted = deleted.contains(&id);
            let removed = self.remove_scratch_of(context, id, status, is_deleted);
            go_on(id, "scratch", removed.await)?;
        }
        Ok(())
    }

    async fn remove_scratch_of(
        &mut self,
        context: &Context,
        id: JobId,
        status: Option<JobStatus>,
        is_deleted: bool,
    ) -> Result<(), SweepError> {
        let directory = context.scratch(id);
        let is_needed = match status {
            Some(status) => {
                retention::end(directory.path())?;
                retention::may_go_on(context, id, status.state).await?
            }
            None if is_deleted => false,
            None => !self.is_retention_over(context, id, directory.path())?,
        };
        if is_needed || context.active.contains(id) {
            return Ok(());
        }
        if finish::remove_scratch(context, id, status, 0).await? {
            tracing::info!(job.id = %id, "leftover scratch directory removed");
        }
        Ok(())
    }

    /// Artifacts of attempts that did not become, and will not become, their job's result.
    async fn remove_attempts(&mut self, context: &Context) -> Result<(), SweepError> {
        let artifacts = &context.parts.artifacts;
        let round = self.rounds;
        self.rounds = round.wrapping_add(1);
        if artifacts.is_shared() && !round.is_multiple_of(BUCKET_ROUNDS) {
            return Ok(());
        }
        let (store, now) = (&context.parts.store, context.now());
        if now.duration_since(self.settled_since).unsigned_abs() > SETTLED_KNOWN {
            self.settled.clear();
            self.settled_since = now;
        }
        for id in store.list_deleted_since(DELETED_LOOK).await? {
            self.settled.remove(&id);
        }
        let found: Vec<_> = artifacts.list(&self.settled).await?.into_iter().collect();
        for batch in found.chunks(BATCH) {
            let ids: Vec<_> = batch.iter().map(|(id, _)| *id).collect();
            let statuses = store.list_statuses(&ids).await?;
            let deleted = store.list_deleted(&ids).await?;
            for (id, stored) in batch {
                let status = statuses.get(id).copied();
                if status.is_some_and(|status| is_settled(status, stored)) {
                    self.settled.insert(*id);
                    continue;
                }
                let is_deleted = deleted.contains(id);
                let removed = self.remove_attempts_of(context, *id, stored, status, is_deleted);
                go_on(*id, "artifacts", removed.await)?;
            }
        }
        Ok(())
    }

    async fn remove_attempts_of(
        &mut self,
        context: &Context,
        id: JobId,
        stored: &Stored,
        status: Option<JobStatus>,
        is_deleted: bool,
    ) -> Result<(), SweepError> {
        let artifacts = &context.parts.artifacts;
        if status.is_none() && !is_deleted {
            self.tell_unknown(id, "artifacts");
            match stored.unknown_since {
                Some(since) if retention::is_past(since, context.now()) => {}
                Some(_) => return Ok(()),
                None => return Ok(artifacts.mark_unknown(id).await?),
            }
        }
        if stored.unknown_since.is_some() {
            artifacts.unmark_unknown(id).await?;
        }
        for &attempt in &stored.attempts {
            if !status.is_some_and(|status| needs(status, attempt)) {
                artifacts.delete_attempt(id, attempt).await?;
                tracing::info!(job.id = %id, job.attempt = attempt, "leftover artifact removed");
            }
        }
        let state = status.map(|status| status.state);
        if state.is_none_or(|state| state.is_terminal() || state == JobState::Paused) {
            let goes_on = match state {
                Some(state) if stored.has_resume_state => {
                    retention::may_go_on(context, id, state).await?
                }
                _ => false,
            };
            // The next attempt may begin with them, or has begun meanwhile.
            if stored.has_resume_state
                && !goes_on
                && finish::is_in_status(context, id, status).await?
            {
                let last = status.map_or(u32::MAX, |status| status.attempt);
                discard(context, id, last).await;
            }
            artifacts.remove_empty(id).await;
        }
        Ok(())
    }

    /// For a job that the database does not know.
    fn is_retention_over(
        &mut self,
        context: &Context,
        id: JobId,
        directory: &Path,
    ) -> io::Result<bool> {
        self.tell_unknown(id, "scratch");
        retention::is_over(directory, context.now())
    }

    fn tell_unknown(&mut self, id: JobId, kind: &str) {
        if self.unknown.insert(id) {
            tracing::warn!(job.id = %id, kind, retention = ?RETENTION, "the database does not know this job, its files are kept for a while");
        }
    }
}

/// Whether nothing but the artifact of a succeeded job is there.
fn is_settled(status: JobStatus, stored: &Stored) -> bool {
    let artifact = Stored {
        attempts: [status.attempt].into(),
        ..Stored::default()
    };
    status.state == JobState::Succeeded && *stored == artifact
}

/// What cannot be removed does not keep the rest, a database or a bucket that is away does.
fn go_on(id: JobId, part: &str, result: Result<(), SweepError>) -> Result<(), SweepError> {
    match result {
        Err(error @ SweepError::Store(_)) => Err(error),
        Err(SweepError::Artifacts(error)) if error.may_pass() => Err(error.into()),
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, job.id = %id, part, "cannot remove what is left of a job");
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

/// What did not work goes to the log.
pub(super) fn log_failure(part: &str, result: Result<(), SweepError>) {
    if let Err(error) = result {
        let error = &error as &dyn std::error::Error;
        tracing::error!(error, part, "sweep failed");
    }
}

/// By then every sweep has removed their files.
async fn forget_deleted(context: &Context) -> Result<(), SweepError> {
    Ok(context.parts.store.forget_deleted(DELETED_KNOWN).await?)
}

async fn forget_keys(context: &Context) -> Result<(), SweepError> {
    context.parts.store.forget_expired_keys().await?;
    Ok(())
}

async fn forget_deliveries(context: &Context) -> Result<(), SweepError> {
    context.parts.store.forget_deliveries(DELIVERY_LOG).await?;
    Ok(())
}

/// Whether the attempt is, or may still become, the job's result.
fn needs(status: JobStatus, attempt: u32) -> bool {
    match status.state {
        JobState::Running | JobState::Pausing | JobState::Cancelling | JobState::Succeeded => {
            status.attempt == attempt
        }
        JobState::Queued | JobState::Paused | JobState::Failed | JobState::Cancelled => false,
    }
}

async fn forget_workers(context: &Context) -> Result<(), SweepError> {
    Ok(context.parts.store.forget_workers(LOST_SHOWN).await?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::job::Publication;
    use crate::domain::job::attempt_end::AttemptEnd;
    use crate::domain::job::state::Action;
    use crate::store::{Lease, Requested};
    use crate::worker::fixture::{build_artifact, claimed, context};

    #[tokio::test]
    async fn the_artifact_of_a_succeeded_job_is_looked_at_once_a_day_and_when_it_is_deleted() {
        let home = tempfile::tempdir().unwrap();
        let context = context(home.path()).await;
        let job = claimed(&context).await;
        let (directory, report) = build_artifact(&context, &job);
        let (store, artifacts) = (&context.parts.store, &context.parts.artifacts);
        artifacts.publish(job.id, 1, &directory, &[]).await.unwrap();
        let end = AttemptEnd::Succeeded(Box::new(Publication {
            attempt: 1,
            report,
            files: Vec::new(),
        }));
        let lease = Lease::of(&job).unwrap();
        assert!(store.finish(&lease, &end, None).await.unwrap().is_some());
        let mut sweeper = Sweeper::default();
        sweeper.remove_attempts(&context).await.unwrap();
        assert_eq!(sweeper.settled, [job.id].into());
        // Nobody looks into its folder any more, until a day is over or the job is gone.
        let later = artifacts.publish(job.id, 2, &directory, &[]).await;
        later.unwrap();
        sweeper.remove_attempts(&context).await.unwrap();
        let stored = async || artifacts.list(&HashSet::new()).await.unwrap();
        assert_eq!(stored().await[&job.id].attempts, [1, 2].into());
        artifacts.mark_unknown(job.id).await.unwrap();
        sweeper.remove_attempts(&context).await.unwrap();
        assert!(stored().await[&job.id].unknown_since.is_some());
        sweeper.settled_since = context.now() - 2 * SETTLED_KNOWN;
        sweeper.remove_attempts(&context).await.unwrap();
        let left = &stored().await[&job.id];
        assert_eq!((&left.attempts, left.unknown_since), (&[1].into(), None));
        sweeper.remove_attempts(&context).await.unwrap();
        assert_eq!(sweeper.settled, [job.id].into());
        let deleted = store.request(job.id, Action::Delete, None).await.unwrap();
        assert!(matches!(deleted, Some(Requested::Done(..))), "{deleted:?}");
        sweeper.remove_attempts(&context).await.unwrap();
        assert!(stored().await.is_empty());
        assert!(sweeper.settled.is_empty());
    }
}
