//! What a supervised attempt has to tell the database and to ask it, one call at a time.
//!
//! A database that is away takes seconds to say nothing. Whoever supervises goes on listening meanwhile: to the process,
//! which would stand still as soon as its pipe is full, and to all that may end the attempt.

use std::collections::VecDeque;
use std::mem;

use futures::future::BoxFuture;

use super::Context;
use crate::domain::attempt::Step;
use crate::store::{Held, Lease, Report, StoreError};

/// Reports that may wait. An attempt has a dozen in its life; one that has more to say is not listened to until they
/// are written.
const ROOM: usize = 64;

/// What was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    /// To renew the lease.
    Renew,
    /// Whether it still holds.
    Look,
    /// To write down where the attempt is.
    Report,
}

/// What waits, and what is under way.
pub(super) struct Calls<'c> {
    context: &'c Context,
    lease: Lease,
    is_renewal_due: bool,
    is_look_due: bool,
    /// In the order in which they were made; none of them is a step.
    reports: VecDeque<Report>,
    /// The newest step, which comes after the reports.
    step: Option<Step>,
    current: Option<(Call, BoxFuture<'c, Result<Held, StoreError>>)>,
}

impl<'c> Calls<'c> {
    pub(super) fn new(context: &'c Context, lease: Lease) -> Self {
        Self {
            context,
            lease,
            is_renewal_due: false,
            is_look_due: false,
            reports: VecDeque::new(),
            step: None,
            current: None,
        }
    }

    /// Before anything else that waits: others may take the job soon.
    pub(super) fn renew(&mut self) {
        self.is_renewal_due = true;
    }

    pub(super) fn look(&mut self) {
        self.is_look_due = true;
    }

    /// Any report but a step.
    pub(super) fn report(&mut self, report: Report) {
        self.reports.push_back(report);
    }

    /// Takes the place of one that still waits.
    pub(super) fn step(&mut self, step: Option<Step>) {
        self.step = step;
    }

    pub(super) fn has_room(&self) -> bool {
        self.reports.len() < ROOM
    }

    /// Whether no report waits to be written.
    pub(super) fn is_told(&self) -> bool {
        let is_reporting = matches!(self.current, Some((Call::Report, _)));
        self.reports.is_empty() && !is_reporting
    }

    /// The next answer, for ever waited for where nothing is to be asked. Safe to drop while waiting.
    pub(super) async fn answered(&mut self) -> (Call, Result<Held, StoreError>) {
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

    fn next(&mut self) -> Option<(Call, BoxFuture<'c, Result<Held, StoreError>>)> {
        let context = self.context;
        let (store, lease) = (&context.parts.store, self.lease.clone());
        if mem::take(&mut self.is_renewal_due) {
            // It says what a look would.
            self.is_look_due = false;
            let renewal = async move { store.heartbeat(&lease, context.settings.lease).await };
            return Some((Call::Renew, Box::pin(renewal)));
        }
        if mem::take(&mut self.is_look_due) {
            let look = async move { store.check_lease(&lease).await };
            return Some((Call::Look, Box::pin(look)));
        }
        let report = self.reports.pop_front();
        let report = report.or_else(|| self.step.take().map(Report::Step))?;
        let telling = async move { store.report(&lease, &report).await };
        Some((Call::Report, Box::pin(telling)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::attempt::Phase;
    use crate::worker::fixture::{claimed, context};

    fn step(finished: u64) -> Step {
        Step {
            name: "blocks".to_owned(),
            finished,
            total: 9,
            unit: "blocks".to_owned(),
            eta_seconds: None,
        }
    }

    #[tokio::test]
    async fn a_lease_is_renewed_first_and_of_the_steps_the_newest_is_written() {
        let home = tempfile::tempdir().unwrap();
        let context = context(home.path()).await;
        let job = claimed(&context).await;
        let mut calls = Calls::new(&context, Lease::of(&job).unwrap());
        calls.step(Some(step(1)));
        calls.step(Some(step(2)));
        calls.report(Report::Phase(Phase::Pruning));
        calls.look();
        calls.renew();
        let mut order = Vec::new();
        for _ in 0..3 {
            let (call, answer) = calls.answered().await;
            assert_eq!(answer.unwrap(), Held::Yes);
            order.push((call, calls.is_told()));
        }
        let expected = [
            (Call::Renew, false),
            (Call::Report, true),
            (Call::Report, true),
        ];
        assert_eq!(order, expected);
        let idle = tokio::time::timeout(std::time::Duration::from_millis(1), calls.answered());
        assert!(idle.await.is_err(), "nothing is left to ask");
        let job = context.parts.store.lookup_job(job.id).await.unwrap();
        let job = job.unwrap();
        assert_eq!(job.phase, Some(Phase::Pruning));
        assert_eq!(job.progress.map(|progress| progress.step), Some(step(2)));
    }
}
