//! The jobs that the slots of this pool work on.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{RwLock, RwLockReadGuard};

use crate::domain::JobId;

/// Active jobs are never reaped, however late their heartbeat is.
#[derive(Debug, Default)]
pub(in crate::worker) struct ActiveJobs {
    /// How many slots are at each: one may begin with a job that is tried again while another clears up after it.
    slots: Mutex<HashMap<JobId, usize>>,
    /// Held from before a claim until its job is active.
    claims: RwLock<()>,
}

impl ActiveJobs {
    /// To be held from before a claim until its job is active.
    pub(in crate::worker) async fn claiming(&self) -> RwLockReadGuard<'_, ()> {
        self.claims.read().await
    }

    /// Whether a claimed job may not be active yet.
    pub(in crate::worker) fn is_claiming(&self) -> bool {
        self.claims.try_write().is_err()
    }

    /// Marks the job as active in one more slot.
    pub(in crate::worker) fn begin(self: &Arc<Self>, id: JobId) -> ActiveJob {
        *self.slots().entry(id).or_default() += 1;
        ActiveJob {
            jobs: Arc::clone(self),
            id,
        }
    }

    pub(in crate::worker) fn contains(&self, id: JobId) -> bool {
        self.slots().contains_key(&id)
    }

    /// Does something quick that no slot may begin with the job meanwhile; `None` where more slots than the caller's
    /// `own` are at it.
    pub(in crate::worker) fn unless_others<T>(
        &self,
        id: JobId,
        own: usize,
        work: impl FnOnce() -> T,
    ) -> Option<T> {
        let slots = self.slots();
        let at_it = slots.get(&id).copied().unwrap_or_default();
        (at_it <= own).then(work)
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<JobId, usize>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Marks a job as active until it is dropped.
#[derive(Debug)]
pub(in crate::worker) struct ActiveJob {
    jobs: Arc<ActiveJobs>,
    id: JobId,
}

impl Drop for ActiveJob {
    fn drop(&mut self) {
        let mut slots = self.jobs.slots();
        match slots.get_mut(&self.id) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(slots.remove(&self.id)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_job_is_active_until_the_last_slot_has_left_it() {
        let jobs = Arc::new(ActiveJobs::default());
        let id: JobId = "job_019abcde0123789a8bcdef0123456789".parse().unwrap();
        let first = jobs.begin(id);
        assert_eq!(jobs.unless_others(id, 0, || ()), None);
        assert_eq!(jobs.unless_others(id, 1, || ()), Some(()));
        let second = jobs.begin(id);
        assert_eq!(jobs.unless_others(id, 1, || ()), None);
        drop(first);
        assert!(jobs.contains(id));
        drop(second);
        assert!(!jobs.contains(id));
    }

    #[tokio::test]
    async fn claims_are_under_way_until_the_last_one_has_ended() {
        let jobs = ActiveJobs::default();
        let claims = (jobs.claiming().await, jobs.claiming().await);
        assert!(jobs.is_claiming());
        drop(claims.0);
        assert!(jobs.is_claiming());
        drop(claims.1);
        assert!(!jobs.is_claiming());
    }
}
