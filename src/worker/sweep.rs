//! Looks over what dead workers left: their jobs, their scratch directories, their unfinished artifacts.

use std::collections::HashSet;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::grace::{self, GRACE};
use super::presence::Dead;
use super::record::count;
use super::supervise::RENEW_AGAIN;
use super::suspects::Suspects;
use super::{Context, checkpoints, jittered};
use crate::artifacts::ArtifactError;
use crate::domain::job::{JobError, JobId};
use crate::domain::state::JobState;
use crate::store::{Ending, Leased, Standing, StoreError};

/// How long it is known that a job was deleted.
const DELETED_KNOWN: Duration = Duration::from_hours(30 * 24);
/// How long messages to webhooks are kept after they were written.
const DELIVERY_LOG: Duration = Duration::from_hours(30 * 24);

/// A bucket is looked over once in so many rounds: its listings are slow, and paid for.
const BUCKET_ROUNDS: u32 = 20;

/// How long a lost worker is listed.
const LOST_SHOWN: Duration = Duration::from_hours(1);

/// Part of a sweep did not work; the next one tries again.
#[derive(Debug, thiserror::Error)]
enum SweepError {
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
    /// Leases that are over, and not yet taken for lost.
    suspects: Suspects,
    rounds: u32,
}

impl Sweeper {
    pub(super) async fn run(mut self, context: Arc<Context>) {
        loop {
            context.pause(self.interval(context.as_ref())).await;
            if context.stop.is_cancelled() {
                return;
            }
            self.sweep(&context).await;
        }
    }

    /// A lease that is over is looked at again soon.
    fn interval(&self, context: &Context) -> Duration {
        let sweep = jittered(context.settings.sweep);
        if self.suspects.is_empty() {
            sweep
        } else {
            sweep.min(context.settings.heartbeat)
        }
    }

    /// One round. Its parts do not depend on each other.
    pub(super) async fn sweep(&mut self, context: &Context) {
        let parts = [
            ("workers", forget_workers(context).await),
            ("leases", self.reap_leases(context).await),
            ("scratch", self.remove_scratch(context).await),
            ("artifacts", self.remove_attempts(context).await),
            ("idempotency keys", forget_keys(context).await),
            ("deleted jobs", forget_deleted(context).await),
            ("webhook deliveries", forget_deliveries(context).await),
        ];
        for (part, result) in parts {
            if let Err(error) = result {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    part,
                    "sweep failed"
                );
            }
        }
    }

    /// One lease that cannot be ended does not keep the others.
    async fn reap_leases(&mut self, context: &Context) -> Result<(), SweepError> {
        // Before the leases: what a worker held that died after this is for the next round, and so is its file.
        let dead = Dead::list(&context.settings.workers_dir)?;
        let found = context.parts.store.list_leased().await;
        let found = found.inspect_err(|_| self.suspects.forget_all())?;
        self.suspects.retain(&found);
        let grace = 2 * context.settings.heartbeat.max(RENEW_AGAIN);
        let mut result = Ok(());
        for leased in &found {
            let lease = &leased.lease;
            if context.is_active(lease.job_id) && lease.owner == context.worker_id() {
                continue;
            }
            let reason = if dead.contains(&lease.owner) {
                "the worker died"
            } else if leased.is_over && self.suspects.is_confirmed(leased, grace) {
                "the worker did not renew its lease"
            } else {
                continue;
            };
            if let Err(error) = reap(context, leased, reason).await {
                self.suspects.forget_all();
                result = Err(error);
            }
        }
        result?;
        for worker_id in dead.worker_ids() {
            context.parts.store.lose_worker(worker_id).await?;
        }
        Ok(dead.remove()?)
    }

    /// Scratch directories of jobs that nobody will work on again.
    async fn remove_scratch(&mut self, context: &Context) -> Result<(), SweepError> {
        let ids = list_scratch(&context.settings.scratch_dir).await?;
        let standings = context.parts.store.list_standings(&ids).await?;
        let deleted = context.parts.store.list_deleted(&ids).await?;
        for id in ids {
            let directory = context.scratch(id);
            let is_needed = match standings.get(&id) {
                Some(standing) => {
                    grace::end(&directory)?;
                    !standing.state.is_terminal() || grace::awaits_retry(context, id).await?
                }
                None if deleted.contains(&id) => false,
                None => !self.is_grace_over(context, id, &directory)?,
            };
            if is_needed || context.is_active(id) {
                continue;
            }
            match tokio::fs::remove_dir_all(directory).await {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
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
        let found = artifacts.list().await?;
        let ids: Vec<_> = found.keys().copied().collect();
        let standings = context.parts.store.list_standings(&ids).await?;
        let deleted = context.parts.store.list_deleted(&ids).await?;
        for (id, stored) in found {
            let standing = standings.get(&id);
            if standing.is_none() && !deleted.contains(&id) {
                self.tell_unknown(id, "artifacts");
                match stored.unknown_since {
                    Some(since) if grace::is_past(since, context.now()) => {}
                    Some(_) => continue,
                    None => {
                        artifacts.mark_unknown(id).await?;
                        continue;
                    }
                }
            }
            if stored.unknown_since.is_some() {
                artifacts.unmark_unknown(id).await?;
            }
            for attempt in stored.attempts {
                if !standing.is_some_and(|standing| needs(*standing, attempt)) {
                    artifacts.delete_attempt(id, attempt).await?;
                    tracing::info!(job.id = %id, job.attempt = attempt, "leftover artifact removed");
                }
            }
            if standing.is_none_or(|standing| standing.state.is_terminal()) {
                if stored.has_checkpoints && !grace::awaits_retry(context, id).await? {
                    checkpoints::discard(context, id).await;
                }
                artifacts.remove_empty(id).await;
            }
        }
        Ok(())
    }

    /// For a job that the database does not know.
    fn is_grace_over(
        &mut self,
        context: &Context,
        id: JobId,
        directory: &Path,
    ) -> io::Result<bool> {
        self.tell_unknown(id, "scratch");
        grace::is_over(directory, context.now())
    }

    fn tell_unknown(&mut self, id: JobId, kind: &str) {
        if self.unknown.insert(id) {
            tracing::warn!(job.id = %id, kind, grace = ?GRACE, "the database does not know this job, its files are kept for a while");
        }
    }
}

/// By then every sweep has removed their files.
async fn forget_deleted(context: &Context) -> Result<(), SweepError> {
    Ok(context.parts.store.forget_deleted(DELETED_KNOWN).await?)
}

/// The directories that are named after jobs; anything else there is not ours.
async fn list_scratch(directory: &Path) -> io::Result<Vec<JobId>> {
    let mut entries = match tokio::fs::read_dir(directory).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut ids = Vec::new();
    while let Some(entry) = entries.next_entry().await? {
        ids.extend(
            entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse::<JobId>().ok()),
        );
    }
    Ok(ids)
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
fn needs(standing: Standing, attempt: u32) -> bool {
    match standing.state {
        JobState::Running | JobState::Pausing | JobState::Cancelling | JobState::Succeeded => {
            standing.attempt == attempt
        }
        JobState::Queued | JobState::Paused | JobState::Failed | JobState::Cancelled => false,
    }
}

async fn forget_workers(context: &Context) -> Result<(), SweepError> {
    Ok(context.parts.store.forget_workers(LOST_SHOWN).await?)
}

/// In the holder's name, and only if it has not been heard of meanwhile.
async fn reap(context: &Context, leased: &Leased, reason: &str) -> Result<(), StoreError> {
    let lease = &leased.lease;
    let ending = ending(leased, reason);
    let settled = context
        .parts
        .store
        .finish(lease, &ending, Some(leased.expires_at))
        .await?;
    if let Some(settled) = settled {
        count(&settled);
        metrics::counter!("secateur_leases_reaped_total").increment(1);
        let state = settled.state.as_str();
        tracing::warn!(job.id = %lease.job_id, job.attempt = lease.attempt, worker.id = lease.owner, reason, state, "lease reaped");
        context.parts.wake.notify_one();
    }
    Ok(())
}

fn ending(leased: &Leased, reason: &str) -> Ending {
    let error = JobError::crash(leased.lease.attempt, leased.phase, reason.to_owned());
    if leased.is_last_attempt {
        Ending::Failed {
            error,
            crashed: true,
        }
    } else {
        Ending::Retry {
            error,
            crashed: true,
            delay: Duration::ZERO,
        }
    }
}
