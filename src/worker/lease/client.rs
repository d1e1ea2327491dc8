//! The lease client: renews and checks one lease and writes reports under it, one call at a time.
//!
//! A database that is away takes seconds to fail. The supervisor must go on reading from the process meanwhile, which
//! would block on a full pipe, and react to everything that may end the attempt.

use std::collections::VecDeque;
use std::mem;

use futures::future::BoxFuture;

use crate::domain::job::progress::{Overall, Step};
use crate::store::{Lease, LeaseCheck, Report, StoreError};
use crate::worker::context::Context;

/// The number of reports that may wait. An attempt makes a dozen; beyond this its output is not read.
const QUEUE_CAPACITY: usize = 64;

/// The kind of a call to the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::worker) enum LeaseCall {
    /// Renews the lease.
    Renew,
    /// Checks whether it is still valid.
    Check,
    /// Writes a report of the attempt.
    Report,
}

/// The calls that wait, and the one under way.
pub(in crate::worker) struct LeaseClient<'c> {
    context: &'c Context,
    lease: Lease,
    is_renewal_due: bool,
    is_check_due: bool,
    /// In the order in which they were made; none of them is a step.
    reports: VecDeque<Report>,
    /// The newest step, which comes after the reports.
    step: Option<(Step, Overall)>,
    current: Option<(LeaseCall, BoxFuture<'c, Result<LeaseCheck, StoreError>>)>,
}

impl<'c> LeaseClient<'c> {
    pub(in crate::worker) fn new(context: &'c Context, lease: Lease) -> Self {
        Self {
            context,
            lease,
            is_renewal_due: false,
            is_check_due: false,
            reports: VecDeque::new(),
            step: None,
            current: None,
        }
    }

    /// Renews the lease before any other call.
    pub(in crate::worker) fn renew(&mut self) {
        self.is_renewal_due = true;
    }

    pub(in crate::worker) fn check(&mut self) {
        self.is_check_due = true;
    }

    /// Queues a report other than a step.
    pub(in crate::worker) fn report(&mut self, report: Report) {
        self.reports.push_back(report);
    }

    /// Replaces the step that still waits.
    pub(in crate::worker) fn step(&mut self, step: Option<(Step, Overall)>) {
        self.step = step;
    }

    pub(in crate::worker) fn has_capacity(&self) -> bool {
        self.reports.len() < QUEUE_CAPACITY
    }

    /// Whether every report but the steps is written.
    pub(in crate::worker) fn is_flushed(&self) -> bool {
        let is_reporting = matches!(self.current, Some((LeaseCall::Report, _)));
        self.reports.is_empty() && !is_reporting
    }

    /// Waits for the next answer; forever where no call is queued. Safe to drop while waiting.
    pub(in crate::worker) async fn answer(
        &mut self,
    ) -> (LeaseCall, Result<LeaseCheck, StoreError>) {
        if self.current.is_none() {
            self.current = self.next();
        }
        let Some((call, answer)) = &mut self.current else {
            return std::future::pending().await;
        };
        let answered = (*call, answer.await);
        self.current = None;
        answered
    }

    fn next(&mut self) -> Option<(LeaseCall, BoxFuture<'c, Result<LeaseCheck, StoreError>>)> {
        let context = self.context;
        let (store, lease) = (&context.parts.store, self.lease.clone());
        if mem::take(&mut self.is_renewal_due) {
            // A renewal includes a check.
            self.is_check_due = false;
            let renewal = async move {
                store
                    .heartbeat(&lease, context.settings.pool.lease_seconds)
                    .await
            };
            return Some((LeaseCall::Renew, Box::pin(renewal)));
        }
        if mem::take(&mut self.is_check_due) {
            let look = async move { store.check_lease(&lease).await };
            return Some((LeaseCall::Check, Box::pin(look)));
        }
        let report = self.reports.pop_front();
        let step = || {
            self.step
                .take()
                .map(|(step, overall)| Report::Step(step, overall))
        };
        let report = report.or_else(step)?;
        let telling = async move { store.report(&lease, &report).await };
        Some((LeaseCall::Report, Box::pin(telling)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::job::progress::Phase;
    use crate::worker::fixture::{claimed, context};

    fn step(finished: u64) -> Step {
        Step::new("blocks".to_owned(), "blocks", finished, 9)
    }

    #[tokio::test]
    async fn a_lease_is_renewed_first_and_of_the_steps_the_newest_is_written() {
        let home = tempfile::tempdir().unwrap();
        let context = context(home.path()).await;
        let job = claimed(&context).await;
        let mut client = LeaseClient::new(&context, Lease::of(&job).unwrap());
        client.step(Some((step(1), Overall::default())));
        client.step(Some((step(2), Overall::default())));
        client.report(Report::Phase(Phase::Pruning, Overall::default()));
        client.check();
        client.renew();
        let mut order = Vec::new();
        for _ in 0..3 {
            let (call, answer) = client.answer().await;
            assert_eq!(answer.unwrap(), LeaseCheck::Valid);
            order.push((call, client.is_flushed()));
        }
        let expected = [
            (LeaseCall::Renew, false),
            (LeaseCall::Report, true),
            (LeaseCall::Report, true),
        ];
        assert_eq!(order, expected);
        let idle = tokio::time::timeout(std::time::Duration::from_millis(1), client.answer());
        assert!(idle.await.is_err(), "nothing is left to ask");
        let job = context.parts.store.lookup_job(job.id).await.unwrap();
        let job = job.unwrap();
        assert_eq!(job.phase, Some(Phase::Pruning));
        assert_eq!(job.progress.unwrap().step, Some(step(2)));
    }
}
