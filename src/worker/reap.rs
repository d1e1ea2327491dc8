//! Ends leases in the name of holders that cannot: of dead workers, of those that are not heard of, and what this worker
//! holds without knowing it.

use std::sync::Arc;
use std::time::Duration;

use super::presence::Dead;
use super::record::count;
use super::supervise::RENEW_AGAIN;
use super::suspects::Suspects;
use super::sweep::{SweepError, tell};
use super::{Context, jittered};
use crate::domain::job::JobError;
use crate::store::{Ending, Leased, StoreError};

/// Looks over all leases again and again.
#[derive(Debug, Default)]
pub(super) struct Reaper {
    /// Leases that are over, and not yet taken for lost.
    suspects: Suspects,
    /// Leases of this worker that none of its slots is at: a claim was committed, and its answer did not arrive.
    unheard: Suspects,
}

impl Reaper {
    /// Until the pool stops.
    pub(super) async fn run(mut self, context: Arc<Context>) {
        loop {
            context.pause(self.interval(&context)).await;
            if context.stop.is_cancelled() {
                return;
            }
            self.look(&context).await;
        }
    }

    /// A lease that was noted is looked at again soon.
    fn interval(&self, context: &Context) -> Duration {
        let sweep = jittered(context.settings.sweep);
        if self.suspects.is_empty() && self.unheard.is_empty() {
            sweep
        } else {
            sweep.min(context.settings.heartbeat)
        }
    }

    /// One look.
    pub(super) async fn look(&mut self, context: &Context) {
        tell("leases", self.reap_leases(context).await);
    }

    /// One lease that cannot be ended does not keep the others.
    async fn reap_leases(&mut self, context: &Context) -> Result<(), SweepError> {
        // Before the leases: what a worker held that died after this is for the next round, and so is its file.
        let dead = Dead::list(&context.settings.workers_dir)?;
        let found = context.parts.store.list_leased().await;
        let found = found.inspect_err(|_| self.forget_all())?;
        // After the leases: whatever claim took one of them has ended by now, or is still under way.
        let is_claiming = context.active.is_claiming();
        self.suspects.retain(&found, |leased| leased.is_over);
        if found.iter().any(|leased| leased.is_over)
            && let Err(error) = write(context).await
        {
            // It can be read, and nobody can write: whoever holds a lease tries to renew it in vain.
            tell("leases", Err(error.into()));
            self.suspects.forget_all();
        }
        self.unheard
            .retain(&found, |leased| is_unheard(context, leased));
        let mut result = Ok(());
        for leased in &found {
            if context.stop.is_cancelled() {
                return result;
            }
            let Some((ending, reason)) = self.judge(context, &dead, leased, is_claiming) else {
                continue;
            };
            if let Err(error) = reap(context, leased, &ending, reason).await {
                self.forget_all();
                result = Err(error.into());
            }
        }
        result?;
        for worker_id in dead.worker_ids() {
            context.parts.store.lose_worker(worker_id).await?;
        }
        Ok(dead.remove()?)
    }

    /// How a lease shall end, and why; `None` where it stays.
    fn judge(
        &mut self,
        context: &Context,
        dead: &Dead,
        leased: &Leased,
        is_claiming: bool,
    ) -> Option<(Ending, &'static str)> {
        let heartbeat = context.settings.heartbeat;
        if leased.lease.owner == context.worker_id() {
            let is_lost = is_unheard(context, leased)
                && !is_claiming
                && self.unheard.is_confirmed(leased, heartbeat);
            return is_lost.then_some((Ending::Released, "the answer to its claim was lost"));
        }
        if dead.contains(&leased.lease.owner) {
            return Some(crash(leased, "the worker died"));
        }
        let is_lost = leased.is_over && self.suspects.is_confirmed(leased, grace(heartbeat));
        is_lost.then(|| crash(leased, "the worker did not renew its lease"))
    }

    /// The database was away: nobody can be blamed for anything before this.
    fn forget_all(&mut self) {
        self.suspects.forget_all();
        self.unheard.forget_all();
    }
}

/// Anything: that this worker lives.
async fn write(context: &Context) -> Result<(), StoreError> {
    let (store, lease) = (&context.parts.store, context.settings.lease);
    store.announce_worker(&context.profile, lease).await?;
    Ok(())
}

/// In which a holder that is alive renews its lease, also when it fails to once.
fn grace(heartbeat: Duration) -> Duration {
    2 * heartbeat.max(2 * RENEW_AGAIN)
}

/// Whether this worker holds it, and no slot knows of it.
fn is_unheard(context: &Context, leased: &Leased) -> bool {
    let lease = &leased.lease;
    lease.owner == context.worker_id() && !context.active.contains(lease.job_id)
}

/// In the holder's name, and only if it has not been heard of meanwhile.
async fn reap(
    context: &Context,
    leased: &Leased,
    ending: &Ending,
    reason: &str,
) -> Result<(), StoreError> {
    let lease = &leased.lease;
    let settled = context
        .parts
        .store
        .finish(lease, ending, Some(leased.expires_at))
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

fn crash(leased: &Leased, reason: &'static str) -> (Ending, &'static str) {
    let error = JobError::crash(leased.lease.attempt, leased.phase, reason.to_owned());
    let ending = if leased.is_last_attempt {
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
    };
    (ending, reason)
}

#[cfg(test)]
mod tests {
    use sqlx::sqlite::SqliteConnectOptions;
    use sqlx::{ConnectOptions as _, Connection as _};

    use super::*;
    use crate::domain::JobState;
    use crate::domain::history::AttemptOutcome;
    use crate::worker::fixture::{claimed, context};

    const HEARTBEAT: Duration = Duration::from_millis(20);

    /// Another program has locked the database: what can be read says nothing about the holder.
    #[tokio::test]
    async fn a_lease_is_not_reaped_soon_after_a_time_in_which_nobody_could_write() {
        let home = tempfile::tempdir().unwrap();
        let mut context = context(home.path()).await;
        context.settings.lease = Duration::ZERO;
        let job = claimed(&context).await;
        let _active = context.active.begin(job.id);
        // Another worker looks.
        let mut other = crate::worker::fixture::context(home.path()).await;
        other.settings.heartbeat = HEARTBEAT;
        let grace = grace(HEARTBEAT);
        let mut reaper = Reaper::default();
        let mut look = async |after: Duration| {
            tokio::time::pause();
            tokio::time::advance(after).await;
            tokio::time::resume();
            reaper.look(&other).await;
            let job = other.parts.store.lookup_job(job.id).await.unwrap();
            job.unwrap().state
        };
        assert_eq!(look(Duration::ZERO).await, JobState::Running, "noted");
        let options = SqliteConnectOptions::new().filename(home.path().join("test.db"));
        let mut writer = options.connect().await.unwrap();
        let transaction = writer.begin_with("begin immediate").await.unwrap();
        assert_eq!(look(grace / 2).await, JobState::Running, "locked");
        transaction.rollback().await.unwrap();
        assert_eq!(look(grace / 2).await, JobState::Running, "free again");
        assert_eq!(look(grace).await, JobState::Queued, "free for long enough");
    }

    /// Its claim was committed, and no slot was told.
    #[tokio::test]
    async fn a_claim_whose_answer_was_lost_is_given_back() {
        let home = tempfile::tempdir().unwrap();
        let mut context = context(home.path()).await;
        context.settings.heartbeat = HEARTBEAT;
        let job = claimed(&context).await;
        let mut reaper = Reaper::default();
        let mut look = async || {
            reaper.look(&context).await;
            tokio::time::sleep(HEARTBEAT).await;
            let (job, attempts) = context
                .parts
                .store
                .lookup_job_with_attempts(job.id)
                .await
                .unwrap()
                .unwrap();
            (job.state, job.failed_attempts, attempts[0].outcome)
        };
        let held = (JobState::Running, 0, None);
        let claiming = context.active.claiming().await;
        assert_eq!(
            [look().await, look().await],
            [held; 2],
            "it may be active soon"
        );
        drop(claiming);
        let active = context.active.begin(job.id);
        assert_eq!([look().await, look().await], [held; 2], "a slot is at it");
        drop(active);
        assert_eq!(look().await, held, "seen once");
        let given_back = (JobState::Queued, 0, Some(AttemptOutcome::Released));
        assert_eq!(look().await, given_back);
    }
}
