//! The reaper: ends the leases of dead workers, expired leases, and this worker's own without a slot.

use std::sync::Arc;
use std::time::Duration;

use super::RENEW_RETRY;
use super::lost::LostLeases;
use crate::domain::job::attempt_end::AttemptEnd;
use crate::domain::job::failure::JobError;
use crate::domain::job::retry::{RetryPolicy, jittered};
use crate::instruments;
use crate::store::{LeaseInfo, StoreError};
use crate::worker::context::Context;
use crate::worker::finish::count;
use crate::worker::lock_file::DeadWorkers;
use crate::worker::sweep::{SweepError, log_failure};

/// Checks all leases again and again.
#[derive(Debug, Default)]
pub(in crate::worker) struct Reaper {
    /// Expired leases that are not confirmed as lost yet.
    expired: LostLeases,
    /// Leases of this worker without an active slot: a claim was committed, and its answer was lost.
    unclaimed: LostLeases,
}

impl Reaper {
    /// Runs until the pool stops.
    pub(in crate::worker) async fn run(mut self, context: Arc<Context>) {
        loop {
            context.pause(self.interval(&context)).await;
            if context.stop.is_cancelled() {
                return;
            }
            self.reap(&context).await;
        }
    }

    /// The time until the next round; short while a lease waits to be confirmed as lost.
    fn interval(&self, context: &Context) -> Duration {
        let sweep = jittered(context.settings.pool.sweep_seconds);
        if self.expired.is_empty() && self.unclaimed.is_empty() {
            sweep
        } else {
            sweep.min(context.settings.pool.heartbeat_seconds)
        }
    }

    /// Runs one round.
    pub(in crate::worker) async fn reap(&mut self, context: &Context) {
        log_failure("leases", self.reap_leases(context).await);
    }

    /// Checks every lease; one that cannot be ended does not stop the others.
    async fn reap_leases(&mut self, context: &Context) -> Result<(), SweepError> {
        // Before the leases: a worker that dies after this is left to the next round, with its file.
        let dead = DeadWorkers::list(&context.settings.workers_dir)?;
        let found = context.parts.store.list_leases().await;
        let found = found.inspect_err(|_| self.forget_all())?;
        // After the leases: a claim that took one of them has ended by now, or is still under way.
        let is_claiming = context.active.is_claiming();
        self.expired.retain(&found, |leased| leased.is_over);
        if found.iter().any(|leased| leased.is_over)
            // Something harmless to write.
            && let Err(error) = context.announce().await
        {
            // The database can be read but not written: no holder can renew its lease.
            log_failure("leases", Err(error.into()));
            self.expired.forget_all();
        }
        self.unclaimed
            .retain(&found, |leased| is_unclaimed(context, leased));
        let mut result = Ok(());
        for leased in &found {
            if context.stop.is_cancelled() {
                return result;
            }
            let Some((end, reason)) = self.judge(context, &dead, leased, is_claiming) else {
                continue;
            };
            if let Err(error) = end_lease(context, leased, &end, reason).await {
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

    /// How a lease must end, and why; `None` where it stays.
    fn judge(
        &mut self,
        context: &Context,
        dead: &DeadWorkers,
        leased: &LeaseInfo,
        is_claiming: bool,
    ) -> Option<(AttemptEnd, &'static str)> {
        let heartbeat = context.settings.pool.heartbeat_seconds;
        if leased.lease.owner == context.worker_id() {
            let is_lost = is_unclaimed(context, leased)
                && !is_claiming
                && self.unclaimed.is_confirmed(leased, heartbeat);
            return is_lost.then_some((AttemptEnd::Released, "the answer to its claim was lost"));
        }
        if dead.contains(&leased.lease.owner) {
            return Some(crash(leased, "the worker died"));
        }
        let is_lost = leased.is_over
            && self
                .expired
                .is_confirmed(leased, confirmation_period(heartbeat));
        is_lost.then(|| crash(leased, "the worker did not renew its lease"))
    }

    /// Starts over after an outage: no holder could renew until now.
    fn forget_all(&mut self) {
        self.expired.forget_all();
        self.unclaimed.forget_all();
    }
}

/// The period in which a living holder renews its lease, even if one renewal fails.
fn confirmation_period(heartbeat: Duration) -> Duration {
    2 * heartbeat.max(2 * RENEW_RETRY)
}

/// Whether this worker holds the lease without an active slot.
fn is_unclaimed(context: &Context, leased: &LeaseInfo) -> bool {
    let lease = &leased.lease;
    lease.owner == context.worker_id() && !context.active.contains(lease.job_id)
}

/// Ends a lease for its holder, unless it was renewed meanwhile.
async fn end_lease(
    context: &Context,
    leased: &LeaseInfo,
    end: &AttemptEnd,
    reason: &str,
) -> Result<(), StoreError> {
    let lease = &leased.lease;
    let settled = context
        .parts
        .store
        .finish(lease, end, Some(leased.expires_at))
        .await?;
    if let Some(settled) = settled {
        count(&settled);
        metrics::counter!(instruments::LEASES_REAPED).increment(1);
        let state = settled.state.as_str();
        tracing::warn!(job.id = %lease.job_id, job.attempt = lease.attempt, worker.id = lease.owner, reason, state, "lease reaped");
        context.parts.wake.notify_one();
    }
    Ok(())
}

fn crash(leased: &LeaseInfo, reason: &'static str) -> (AttemptEnd, &'static str) {
    let error = JobError::crash(leased.lease.attempt, leased.phase, reason.to_owned());
    let end = RetryPolicy::AT_ONCE.end(error, true, leased.budget);
    (end, reason)
}

#[cfg(test)]
mod tests {
    use sqlx::sqlite::SqliteConnectOptions;
    use sqlx::{ConnectOptions as _, Connection as _};

    use super::*;
    use crate::domain::job::event::AttemptOutcome;
    use crate::domain::job::state::JobState;
    use crate::worker::fixture::{claimed, context};

    const HEARTBEAT: Duration = Duration::from_millis(20);

    /// Another program has locked the database: what can be read says nothing about the holder.
    #[tokio::test]
    async fn a_lease_is_not_reaped_soon_after_a_time_in_which_nobody_could_write() {
        let home = tempfile::tempdir().unwrap();
        let mut context = context(home.path()).await;
        context.settings.pool.lease_seconds = Duration::ZERO;
        let job = claimed(&context).await;
        let _active = context.active.begin(job.id);
        // Another worker looks.
        let mut other = crate::worker::fixture::context(home.path()).await;
        other.settings.pool.heartbeat_seconds = HEARTBEAT;
        let period = confirmation_period(HEARTBEAT);
        let mut reaper = Reaper::default();
        let mut look = async |after: Duration| {
            tokio::time::pause();
            tokio::time::advance(after).await;
            tokio::time::resume();
            reaper.reap(&other).await;
            let job = other.parts.store.lookup_job(job.id).await.unwrap();
            job.unwrap().state
        };
        assert_eq!(look(Duration::ZERO).await, JobState::Running, "noted");
        let options = SqliteConnectOptions::new().filename(home.path().join("test.db"));
        let mut writer = options.connect().await.unwrap();
        let transaction = writer.begin_with("begin immediate").await.unwrap();
        assert_eq!(look(period / 2).await, JobState::Running, "locked");
        transaction.rollback().await.unwrap();
        assert_eq!(look(period / 2).await, JobState::Running, "free again");
        assert_eq!(look(period).await, JobState::Queued, "free for long enough");
    }

    /// Its claim was committed, and no slot was told.
    #[tokio::test]
    async fn a_claim_whose_answer_was_lost_is_given_back() {
        let home = tempfile::tempdir().unwrap();
        let mut context = context(home.path()).await;
        context.settings.pool.heartbeat_seconds = HEARTBEAT;
        let job = claimed(&context).await;
        let mut reaper = Reaper::default();
        let mut look = async || {
            reaper.reap(&context).await;
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
