//! What a store does, said once more without a database: the measure of the property test.

use std::collections::BTreeMap;

use secateur::domain::job::event::Event;
use secateur::domain::job::{Cancellation, Publication};

use super::super::*;

/// All that is known of one job.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) job: Job,
    pub(super) attempts: Vec<Attempt>,
    pub(super) events: Vec<Event>,
    pub(super) publication: Option<Publication>,
}

/// Every job by its id, which is their order by age, and who is there to claim them.
#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) entries: BTreeMap<JobId, Entry>,
    /// Nobody claims anything.
    pub(super) paused: bool,
    /// The workers that were announced, and whether they drain.
    pub(super) workers: BTreeMap<String, bool>,
}

/// What became of an attempt to end an attempt.
#[derive(Debug, PartialEq)]
pub(super) enum Finished {
    Lost,
    Refused,
    Settled(JobState, AttemptOutcome),
}

impl Entry {
    fn log(&mut self, now: Timestamp, kind: EventKind) {
        self.events.push(Event {
            seq: self.events.len() as u64 + 1,
            at: now,
            attempt: self.job.attempt,
            kind,
        });
    }

    fn is_overdue(&self, now: Timestamp) -> bool {
        self.job.scheduling.deadline_at.is_some_and(|at| at <= now)
    }

    fn touch(&mut self, now: Timestamp) {
        self.job.updated_at = now;
        self.job.version += 1;
    }

    fn held(&self) -> LeaseCheck {
        match self.job.state {
            JobState::Cancelling => LeaseCheck::CancelRequested,
            JobState::Pausing => LeaseCheck::PauseRequested,
            _ => LeaseCheck::Valid,
        }
    }
}

impl Model {
    pub(super) fn insert(&mut self, mut job: Job, now: Timestamp) {
        if job.run_after <= job.created_at {
            job.run_after = now;
        }
        (job.created_at, job.updated_at, job.queued_at) = (now, now, now);
        job.scheduling.deadline_at = job.scheduling.deadline_after.map(|after| now + after);
        let mut entry = Entry {
            job,
            attempts: Vec::new(),
            events: Vec::new(),
            publication: None,
        };
        entry.log(now, EventKind::Queued);
        self.entries.insert(entry.job.id, entry);
    }

    pub(super) fn claim(&mut self, claim: &Claim, now: Timestamp) -> Option<Job> {
        let is_known = self.workers.contains_key(&claim.worker_id);
        let entry = self.next_for(claim, now)?;
        let job = &mut entry.job;
        job.state = JobState::Running;
        job.attempt += 1;
        job.lease_owner = Some(claim.worker_id.clone());
        job.lease_expires_at = Some(now + claim.lease);
        job.started_at.get_or_insert(now);
        (job.phase, job.error) = (None, None);
        entry.touch(now);
        entry.attempts.push(Attempt {
            attempt: entry.job.attempt,
            worker_id: claim.worker_id.clone(),
            host: is_known.then(|| "host".to_owned()),
            device: claim.device.name.clone(),
            started_at: now,
            finished_at: None,
            outcome: None,
            error: None,
            log_tail: None,
        });
        entry.log(
            now,
            EventKind::Started {
                worker_id: claim.worker_id.clone(),
                device: claim.device.name.clone(),
            },
        );
        Some(entry.job.clone())
    }

    /// The job whose turn it is, of those that fit.
    fn next_for(&mut self, claim: &Claim, now: Timestamp) -> Option<&mut Entry> {
        if self.paused || self.workers.get(&claim.worker_id) == Some(&true) {
            return None;
        }
        let held: Vec<_> = self.held().map(|job| job.scheduling.clone()).collect();
        let own = self.held_by(&claim.worker_id);
        let taken: u64 = own.filter_map(|job| job.scheduling.memory_bytes).sum();
        let fits = |job: &Job| {
            let needs = &job.scheduling;
            let memory = needs.memory_bytes.zip(claim.device.memory_bytes);
            needs
                .device_kind
                .is_none_or(|kind| kind == claim.device.kind)
                && memory.is_none_or(|(needed, all)| needed + taken <= all)
        };
        let waiting = self.entries.values_mut().filter(|entry| {
            entry.job.state == JobState::Queued
                && (entry.job.run_after <= now || entry.job.run_after <= entry.job.queued_at)
                && !entry.is_overdue(now)
                && fits(&entry.job)
        });
        // The first of equal ones is the oldest.
        waiting.min_by_key(|entry| {
            let own = &entry.job.scheduling;
            let same = held.iter().filter(|held| held.submitter == own.submitter);
            (-own.priority, same.count())
        })
    }

    fn held(&self) -> impl Iterator<Item = &Job> {
        let jobs = self.entries.values().map(|entry| &entry.job);
        jobs.filter(|job| job.lease_owner.is_some())
    }

    /// The jobs that a worker holds.
    pub(super) fn held_by(&self, worker: &str) -> impl Iterator<Item = &Job> {
        self.held()
            .filter(move |job| job.lease_owner.as_deref() == Some(worker))
    }

    /// The job, if this lease is the one that it is under.
    fn holder(&mut self, lease: &Lease) -> Option<&mut Entry> {
        self.entries.get_mut(&lease.job_id).filter(|entry| {
            entry.job.state.is_held()
                && entry.job.attempt == lease.attempt
                && entry.job.lease_owner.as_ref() == Some(&lease.owner)
        })
    }

    pub(super) fn check(&mut self, lease: &Lease) -> LeaseCheck {
        self.holder(lease)
            .map_or(LeaseCheck::Lost, |entry| entry.held())
    }

    pub(super) fn heartbeat(&mut self, lease: &Lease, until: Timestamp) -> LeaseCheck {
        self.holder(lease).map_or(LeaseCheck::Lost, |entry| {
            entry.job.lease_expires_at = Some(until);
            entry.held()
        })
    }

    pub(super) fn report(&mut self, lease: &Lease, report: &Report, now: Timestamp) -> LeaseCheck {
        let Some(entry) = self.holder(lease) else {
            return LeaseCheck::Lost;
        };
        let progress = |overall, step| Progress {
            overall,
            step,
            updated_at: now,
        };
        match report.clone() {
            Report::Pinned(commits) => {
                entry.job.commits = commits;
                entry.job.version += 1;
            }
            Report::Phase(phase, overall) => {
                entry.job.phase = Some(phase);
                entry.job.progress = Some(progress(overall, None));
                entry.log(now, EventKind::Phase { phase });
            }
            Report::Step(step, overall) => {
                entry.job.progress = Some(progress(overall, Some(step)));
            }
            Report::LogTail(_) => {}
            Report::Resumed { block, blocks } => {
                entry.log(now, EventKind::Resumed { block, blocks });
            }
        }
        entry.job.updated_at = now;
        entry.held()
    }

    /// `seen` is the expiry that somebody else saw who ends the attempt in the holder's name.
    #[expect(clippy::too_many_lines, reason = "one table, a row for each ending")]
    pub(super) fn finish(
        &mut self,
        lease: &Lease,
        ending: &AttemptEnd,
        seen: Option<Timestamp>,
        now: Timestamp,
    ) -> Finished {
        let Some(entry) = self.holder(lease) else {
            return Finished::Lost;
        };
        if seen.is_some() && seen != entry.job.lease_expires_at {
            return Finished::Lost;
        }
        let is_cancelling = entry.job.state == JobState::Cancelling;
        let is_pausing = entry.job.state == JobState::Pausing;
        let (state, outcome, kind, error) = match ending.clone() {
            AttemptEnd::Succeeded(publication) => {
                let kind = EventKind::Succeeded {
                    digest: publication.report.digest().map(str::to_owned),
                };
                entry.job.outcome = Some(publication.outcome());
                entry.publication = Some(*publication);
                (JobState::Succeeded, AttemptOutcome::Succeeded, kind, None)
            }
            AttemptEnd::Lost => return Finished::Lost,
            AttemptEnd::Cancelled if !is_cancelling => return Finished::Refused,
            AttemptEnd::Failed {
                error,
                crashed: false,
            } => {
                let kind = EventKind::Failed {
                    error: error.clone(),
                };
                (JobState::Failed, AttemptOutcome::Failed, kind, Some(error))
            }
            _ if is_cancelling => (
                JobState::Cancelled,
                AttemptOutcome::Cancelled,
                EventKind::Cancelled,
                None,
            ),
            AttemptEnd::Paused if !is_pausing => return Finished::Refused,
            AttemptEnd::Failed { error, .. } => {
                let kind = EventKind::Failed {
                    error: error.clone(),
                };
                (JobState::Failed, AttemptOutcome::Crashed, kind, Some(error))
            }
            AttemptEnd::Paused => (
                JobState::Paused,
                AttemptOutcome::Paused,
                EventKind::Paused,
                None,
            ),
            AttemptEnd::Released if is_pausing => (
                JobState::Paused,
                AttemptOutcome::Released,
                EventKind::Paused,
                None,
            ),
            AttemptEnd::Retry { error, crashed, .. } if is_pausing => {
                let outcome = if crashed {
                    AttemptOutcome::Crashed
                } else {
                    AttemptOutcome::Failed
                };
                (JobState::Paused, outcome, EventKind::Paused, Some(error))
            }
            AttemptEnd::Waiting { error, .. } if is_pausing => (
                JobState::Paused,
                AttemptOutcome::Failed,
                EventKind::Paused,
                Some(error),
            ),
            AttemptEnd::Waiting { error, delay, .. } => {
                entry.job.run_after = now + delay;
                let kind = EventKind::Retrying {
                    error: error.clone(),
                    run_after: now + delay,
                };
                (JobState::Queued, AttemptOutcome::Failed, kind, Some(error))
            }
            AttemptEnd::Retry {
                error,
                crashed,
                delay,
            } => {
                entry.job.run_after = now + delay;
                let kind = EventKind::Retrying {
                    error: error.clone(),
                    run_after: now + delay,
                };
                let outcome = if crashed {
                    AttemptOutcome::Crashed
                } else {
                    AttemptOutcome::Failed
                };
                (JobState::Queued, outcome, kind, Some(error))
            }
            AttemptEnd::Released | AttemptEnd::Cancelled => (
                JobState::Queued,
                AttemptOutcome::Released,
                EventKind::Released,
                None,
            ),
        };
        entry.close(state, outcome, error, now);
        entry.log(now, kind);
        Finished::Settled(state, outcome)
    }

    /// The job after it was asked; `None` where that is not allowed.
    pub(super) fn ask(&mut self, id: JobId, action: Action, now: Timestamp) -> Option<Job> {
        let entry = self.entries.get_mut(&id)?;
        let before = entry.job.state;
        let (next, kind) = match (action, before) {
            (Action::Cancel, JobState::Queued | JobState::Paused) => {
                (JobState::Cancelled, EventKind::Cancelled)
            }
            (Action::Cancel, JobState::Running | JobState::Pausing) => {
                (JobState::Cancelling, EventKind::Cancelling)
            }
            (Action::Pause, JobState::Queued) => (JobState::Paused, EventKind::Paused),
            (Action::Pause, JobState::Running) => (JobState::Pausing, EventKind::Pausing),
            (Action::Resume, JobState::Paused) => (JobState::Queued, EventKind::Continued),
            (Action::Retry, JobState::Failed | JobState::Cancelled) => {
                (JobState::Queued, EventKind::Retried)
            }
            (Action::Delete, state) if state.is_terminal() => {
                return self.entries.remove(&id).map(|entry| entry.job);
            }
            (Action::Cancel, JobState::Cancelling | JobState::Cancelled)
            | (Action::Pause, JobState::Pausing | JobState::Paused)
            | (Action::Resume | Action::Retry, JobState::Queued | JobState::Running) => {
                return Some(entry.job.clone());
            }
            _ => return None,
        };
        let job = &mut entry.job;
        job.state = next;
        job.finished_at = next.is_terminal().then_some(now);
        if next == JobState::Queued {
            (job.queued_at, job.phase) = (now, None);
        }
        if next == JobState::Cancelled {
            job.error = None;
        }
        if action == Action::Cancel {
            job.cancellation = Some(Cancellation {
                requested_at: now,
                by: None,
                reason: None,
            });
        }
        if action == Action::Retry {
            (job.failed_attempts, job.crash_count, job.error) = (0, 0, None);
            (job.progress, job.cancellation) = (None, None);
            if job.attempt > 0 || job.run_after < now {
                job.run_after = now;
            }
            job.scheduling.deadline_at = job.scheduling.deadline_after.map(|after| now + after);
        }
        entry.touch(now);
        entry.log(now, kind);
        Some(entry.job.clone())
    }

    /// Ends what nobody works on past its deadline.
    pub(super) fn fail_overdue(&mut self, now: Timestamp) -> Vec<JobId> {
        let mut ended = Vec::new();
        for (id, entry) in &mut self.entries {
            let state = entry.job.state;
            if !entry.is_overdue(now) || !matches!(state, JobState::Queued | JobState::Paused) {
                continue;
            }
            let code = ErrorCode::DeadlineExceeded;
            let error = JobError {
                failure: AttemptFailure {
                    code,
                    message: format!("the job was {} at its deadline", state.as_str()),
                    phase: None,
                    retryable: false,
                },
                attempt: entry.job.attempt,
            };
            entry.job.state = JobState::Failed;
            entry.job.finished_at = Some(now);
            entry.job.error = Some(error.clone());
            entry.touch(now);
            entry.log(now, EventKind::Failed { error });
            ended.push(*id);
        }
        ended
    }

    /// Newest first.
    pub(super) fn list(&self, filter: &JobFilter, before: Option<JobId>) -> Vec<Job> {
        let jobs = self.entries.values().rev().map(|entry| entry.job.clone());
        jobs.filter(|job| before.is_none_or(|before| job.id < before))
            .filter(|job| filter.states.is_empty() || filter.states.contains(&job.state))
            .collect()
    }
}

impl Entry {
    fn close(
        &mut self,
        state: JobState,
        outcome: AttemptOutcome,
        error: Option<JobError>,
        now: Timestamp,
    ) {
        let job = &mut self.job;
        job.state = state;
        if matches!(outcome, AttemptOutcome::Failed | AttemptOutcome::Crashed) {
            job.failed_attempts += 1;
        }
        if outcome == AttemptOutcome::Crashed {
            job.crash_count += 1;
        }
        if state == JobState::Queued {
            job.queued_at = now;
        }
        if state.is_terminal() {
            job.finished_at = Some(now);
        }
        if state != JobState::Failed {
            job.phase = None;
        }
        (job.lease_owner, job.lease_expires_at) = (None, None);
        job.error.clone_from(&error);
        self.touch(now);
        let last = self.attempts.last_mut().unwrap();
        (last.finished_at, last.outcome, last.error) = (Some(now), Some(outcome), error);
    }
}
