//! Random operations by several workers, some of whom hold nothing any more: a store and the model of it agree after
//! each, and what holds for every history holds.

mod model;
mod operations;

use std::collections::BTreeMap;

use proptest::test_runner::{Config, TestRunner};

use secateur::domain::job::scheduling::Scheduling;
use secateur::domain::spec::PinnedCommit;
use secateur::domain::worker::{Device, WorkerProfile};

use super::*;
use model::{Finished, Model};
use operations::{End, Forged, Holder, Operation, operation};

/// 1200 operations on each database.
const CASES: u32 = 12;
const OPERATIONS: usize = 100;

/// The store, its model, and what was handed out.
struct Bench {
    store: TestStore,
    model: Model,
    seconds: i64,
    leases: Vec<Lease>,
    ids: Vec<JobId>,
    /// The jobs as they were after the last operation.
    seen: BTreeMap<JobId, Job>,
}

impl Bench {
    async fn open(database: Database) -> Self {
        Self {
            store: TestStore::open(database).await,
            model: Model::default(),
            seconds: 0,
            leases: Vec::new(),
            ids: Vec::new(),
            seen: BTreeMap::new(),
        }
    }

    fn now(&self) -> Timestamp {
        at(self.seconds)
    }

    fn lease(&self, holder: &Holder) -> Option<Lease> {
        let index = holder.lease % self.leases.len().max(1);
        let mut lease = self.leases.iter().rev().nth(index)?.clone();
        match holder.forged {
            Forged::No => {}
            Forged::Owner => lease.owner.push('x'),
            Forged::Attempt => lease.attempt += 1,
        }
        Some(lease)
    }

    #[expect(clippy::too_many_lines, reason = "a line or two for each operation")]
    async fn run(&mut self, operation: &Operation) {
        let now = self.now();
        match operation {
            Operation::Insert {
                delay_seconds,
                deadline_seconds,
                wants,
            } => {
                let scheduling = Scheduling {
                    deadline_after: deadline_seconds.map(Duration::from_secs),
                    ..wants.clone()
                };
                self.insert(*delay_seconds, scheduling).await;
            }
            Operation::Claim { worker, device } => self.claim(*worker, device).await,
            Operation::Announce { worker } => self.announce(*worker).await,
            Operation::Drain { worker, draining } => {
                let id = name(*worker);
                let known = self.store.set_draining(&id, *draining).await.unwrap();
                let drains = self.model.workers.get_mut(&id);
                assert_eq!(known, drains.is_some());
                if let Some(drains) = drains {
                    *drains = *draining;
                }
            }
            Operation::Pause { paused } => {
                self.store.set_paused(*paused).await.unwrap();
                self.model.paused = *paused;
            }
            Operation::Check(holder) => {
                if let Some(lease) = self.lease(holder) {
                    let held = self.store.check_lease(&lease).await.unwrap();
                    assert_eq!(held, self.model.check(&lease));
                }
            }
            Operation::Heartbeat(holder) => {
                if let Some(lease) = self.lease(holder) {
                    let held = self.store.heartbeat(&lease, LEASE).await.unwrap();
                    assert_eq!(held, self.model.heartbeat(&lease, now + LEASE));
                }
            }
            Operation::Report(holder, what) => {
                if let Some(lease) = self.lease(holder) {
                    let report = report(*what);
                    let held = self.store.report(&lease, &report).await.unwrap();
                    assert_eq!(held, self.model.report(&lease, &report, now));
                }
            }
            Operation::Finish(holder, end) => {
                if let Some(lease) = self.lease(holder) {
                    let ending = ending(lease.attempt, end);
                    self.finish(&lease, &ending, None).await;
                }
            }
            Operation::Ask {
                job,
                action,
                is_stale,
            } => {
                let id = self.ids.iter().rev().nth(job % self.ids.len().max(1));
                if let Some(&id) = id {
                    self.ask(id, *action, *is_stale).await;
                }
            }
            Operation::FailOverdue => {
                let mut ended = self.store.fail_overdue().await.unwrap();
                ended.sort_unstable();
                assert_eq!(ended, self.model.fail_overdue(now));
            }
            Operation::Sweep => self.sweep().await,
            Operation::Advance { seconds } => {
                self.seconds += seconds;
                self.store.at(self.seconds);
            }
            Operation::List {
                state,
                before,
                limit,
            } => self.list(*state, *before, *limit).await,
        }
    }

    async fn ask(&mut self, id: JobId, action: Action, is_stale: bool) {
        let version = self.model.entries[&id].job.version;
        let if_version = if is_stale { version + 1 } else { version };
        let requested = self.store.request(id, action, Some(if_version)).await;
        let requested = requested.unwrap().unwrap();
        if is_stale {
            assert_eq!(requested, Requested::Stale(version));
            return;
        }
        let attempts = self.model.entries[&id].attempts.clone();
        let state = self.model.entries[&id].job.state;
        let expected = match self.model.ask(id, action, self.now()) {
            Some(job) if job.version == version && action != Action::Delete => {
                Requested::Unchanged(Box::new(job), attempts)
            }
            Some(job) => Requested::Done(Box::new(job), attempts),
            None => Requested::NotAllowed(state),
        };
        assert_eq!(requested, expected);
        if !self.model.entries.contains_key(&id) {
            self.ids.retain(|known| *known != id);
            self.seen.remove(&id);
            assert_eq!(self.store.lookup_job(id).await.unwrap(), None);
        }
    }

    async fn insert(&mut self, delay_seconds: i64, scheduling: Scheduling) {
        let mut job = new_job("m", self.now());
        job.scheduling = scheduling;
        job.run_after = at(self.seconds + delay_seconds);
        self.store.insert_job(&job).await.unwrap();
        self.ids.push(job.id);
        self.model.insert(job, self.now());
    }

    async fn announce(&mut self, worker: u8) {
        let id = name(worker);
        let cpu = ["cpu".to_owned()];
        let profile = WorkerProfile::new(id.clone(), "host".to_owned(), &cpu, None).unwrap();
        let drains = self.store.announce_worker(&profile, LEASE).await.unwrap();
        assert_eq!(drains, *self.model.workers.entry(id).or_default());
    }

    async fn claim(&mut self, worker: u8, device: &Device) {
        let claim = Claim {
            device: device.clone(),
            ..claim_by(&name(worker))
        };
        let claimed = self.store.claim_next_job(&claim).await.unwrap();
        assert_eq!(claimed, self.model.claim(&claim, self.now()));
        self.leases.extend(claimed.as_ref().and_then(Lease::of));
    }

    async fn finish(&mut self, lease: &Lease, ending: &AttemptEnd, seen: Option<Timestamp>) {
        let finished = match self.store.finish(lease, ending, seen).await {
            Ok(None) => Finished::Lost,
            Ok(Some(settled)) => Finished::Settled(settled.state, settled.outcome),
            Err(_) => Finished::Refused,
        };
        let expected = self.model.finish(lease, ending, seen, self.now());
        assert_eq!(finished, expected);
    }

    /// What a worker's sweep does with leases that are over.
    async fn sweep(&mut self) {
        for leased in self.store.list_leases().await.unwrap() {
            let job = &self.model.entries[&leased.lease.job_id].job;
            assert_eq!(leased.is_over, leased.expires_at <= self.now());
            assert_eq!(leased.budget, Budget::of(job));
            if leased.is_over {
                let end = if leased.budget.is_last_attempt() {
                    End::Failed { crashed: true }
                } else {
                    End::Retry {
                        crashed: true,
                        delay: 0,
                    }
                };
                let ending = ending(leased.lease.attempt, &end);
                self.finish(&leased.lease, &ending, Some(leased.expires_at))
                    .await;
            }
        }
    }

    async fn list(&self, state: usize, before: usize, limit: u32) {
        let filter = JobFilter {
            states: JobState::ALL.get(state).copied().into_iter().collect(),
            ..JobFilter::default()
        };
        let before = self.ids.get(before).copied();
        let listed = self.store.list_jobs(&filter, before, limit).await.unwrap();
        let mut expected = self.model.list(&filter, before);
        expected.truncate(limit as usize);
        assert_eq!(listed, expected);
    }

    /// Every job is as the model says, and came there by a legal way.
    async fn compare(&mut self) {
        let everything = JobFilter::default();
        let jobs = self.store.list_jobs(&everything, None, 1000).await.unwrap();
        assert_eq!(jobs, self.model.list(&everything, None));
        for job in jobs {
            if let Some(before) = self.seen.get(&job.id) {
                assert!(job.attempt >= before.attempt && job.version >= before.version);
                let (from, to) = (before.state, job.state);
                assert!(from == to || from.may_become(to), "{from:?} to {to:?}");
                assert!(job.version > before.version || from == to);
            }
            if self.seen.get(&job.id) != Some(&job) {
                self.compare_history(&job).await;
            }
            self.seen.insert(job.id, job);
        }
        self.compare_log().await;
        let mut counts = BTreeMap::new();
        for job in self.seen.values() {
            *counts.entry(job.state).or_insert(0) += 1;
        }
        assert_eq!(self.store.count_jobs().await.unwrap(), counts);
        self.compare_workers().await;
    }

    async fn compare_workers(&self) {
        let cluster = self.store.cluster_state().await.unwrap();
        assert_eq!(cluster.paused, self.model.paused);
        let found: BTreeMap<_, _> = cluster
            .workers
            .into_iter()
            .map(|worker| (worker.profile.id, (worker.draining, worker.jobs)))
            .collect();
        let expected = self.model.workers.iter().map(|(id, draining)| {
            let jobs = self.model.held_by(id).map(|job| job.id).collect();
            (id.clone(), (*draining, jobs))
        });
        assert_eq!(found, expected.collect());
    }

    /// The log of all jobs is made of theirs, and its end is the newest event of all.
    async fn compare_log(&self) {
        let mut log = self.store.list_all_events(0, 10_000).await.unwrap();
        log.retain(|numbered| {
            let event = numbered.event.as_ref();
            event.is_none_or(|event| !matches!(event.kind, EventKind::Deleted { .. }))
        });
        let events = self.model.entries.values().map(|entry| entry.events.len());
        assert_eq!(log.len(), events.sum::<usize>());
        assert!(log.is_sorted_by(|a, b| a.number < b.number));
        let last = self.store.last_event_number().await.unwrap();
        assert!(log.last().is_none_or(|newest| newest.number <= last));
    }

    async fn compare_history(&self, job: &Job) {
        let entry = &self.model.entries[&job.id];
        let events = self.store.list_events(job.id, 0, 1000).await.unwrap();
        assert_eq!(events, entry.events);
        let found = self.store.lookup_job_with_attempts(job.id).await.unwrap();
        assert_eq!(found.unwrap().1, entry.attempts);
        let publication = self.store.lookup_publication(job.id).await.unwrap();
        assert_eq!(publication, entry.publication);
        assert_eq!(publication.is_some(), job.state == JobState::Succeeded);

        let is_terminal = |kind: &EventKind| {
            matches!(
                kind,
                EventKind::Succeeded { .. } | EventKind::Failed { .. } | EventKind::Cancelled
            )
        };
        let ends = events.iter().filter(|event| is_terminal(&event.kind));
        let begun_anew = events
            .iter()
            .filter(|event| event.kind == EventKind::Retried);
        let lives = begun_anew.count() + usize::from(job.state.is_terminal());
        assert_eq!(ends.count(), lives);
        assert_eq!(
            is_terminal(&events.last().unwrap().kind),
            job.state.is_terminal()
        );
    }
}

fn name(worker: u8) -> String {
    format!("w{worker}")
}

fn report(what: u8) -> Report {
    match what % 4 {
        3 => Report::Pinned(vec![PinnedCommit {
            id: "org/name".to_owned(),
            revision: "main".to_owned(),
            commit: format!("{what:040x}"),
        }]),
        0 => Report::Phase(
            [Phase::Resolving, Phase::Pruning][usize::from(what > 127)],
            overall(what),
        ),
        1 => Report::Resumed {
            block: usize::from(what),
            blocks: 256,
        },
        _ => {
            let step = Step::new("blocks".to_owned(), "blocks", u64::from(what), 256);
            Report::Step(step, overall(what))
        }
    }
}

fn overall(what: u8) -> Overall {
    Overall {
        percent: f64::from(what),
        eta_seconds: Some(u64::from(what)),
    }
}

fn ending(attempt: u32, end: &End) -> AttemptEnd {
    match *end {
        End::Succeeded => succeeded(attempt),
        End::Failed { crashed } => AttemptEnd::Failed {
            error: error(attempt),
            crashed,
        },
        End::Retry { crashed, delay } => retry(attempt, crashed, delay),
        End::Cancelled => AttemptEnd::Cancelled,
        End::Paused => AttemptEnd::Paused,
        End::Released => AttemptEnd::Released,
    }
}

/// `open` gives a fresh database, or `None` where there is no server.
fn check<F: Future<Output = Option<Database>>>(open: impl Fn() -> F) {
    let config = Config {
        cases: CASES,
        max_shrink_iters: 100,
        failure_persistence: None,
        ..Config::default()
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let operations = proptest::collection::vec(operation(), OPERATIONS);
    let result = TestRunner::new(config).run(&operations, |operations| {
        runtime.block_on(async {
            if let Some(database) = open().await {
                let mut bench = Bench::open(database).await;
                for operation in &operations {
                    bench.run(operation).await;
                    bench.compare().await;
                }
                bench.store.close().await;
            }
        });
        Ok(())
    });
    result.unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn any_history_on_sqlite_is_that_of_the_model() {
    check(async || Some(Database::sqlite()));
}

#[test]
fn any_history_on_postgres_is_that_of_the_model() {
    check(Database::postgres);
}
