//! What every [`Store`] must do. The functions take any store; each database has a test that runs all of them.

use std::time::Duration;

use jiff::Timestamp;
use secateur::domain::attempt::{AttemptFailure, Phase, Step};
use secateur::domain::history::{Attempt, AttemptOutcome, EventKind};
use secateur::domain::job::{Job, JobError, JobFilter, JobId, MAX_ATTEMPTS};
use secateur::domain::request::{Defaults, JobRequest};
use secateur::domain::state::JobState;
use secateur::domain::{ErrorCode, JobType};
use secateur::store::{Claim, Ending, Held, Lease, Leased, Report, SqliteStore, Store};
use serde_json::json;
use uuid::Uuid;

use crate::harness::{evaluation, publication};
use queries::{
    a_job_is_read_together_with_its_attempts, filters_and_counts_agree,
    jobs_can_be_filtered_by_their_type, pages_do_not_move_when_jobs_are_added,
    standings_are_those_of_the_known_jobs,
};

mod one_file;
mod queries;

/// Runs each function of the suite on a fresh store.
macro_rules! conformance {
    ($open:path: $($test:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                let directory = tempfile::tempdir().unwrap();
                super::$test(&$open(&directory.path().join("test.db")).await.unwrap()).await;
            }
        )*
    };
}

mod sqlite {
    use super::SqliteStore;

    conformance!(SqliteStore::open:
        a_job_comes_back_as_it_was_stored,
        an_evaluation_comes_back_as_it_was_stored,
        the_oldest_job_is_claimed_first_and_not_before_its_time,
        two_claimers_never_get_the_same_job,
        a_heartbeat_moves_the_end_of_the_lease,
        a_lost_lease_writes_nothing,
        a_lease_renewed_meanwhile_is_not_reaped,
        a_job_is_cancelled_from_each_state_as_the_state_machine_says,
        a_cancelled_job_is_not_tried_again,
        work_that_ended_before_the_cancellation_counts,
        an_attempt_given_back_does_not_count,
        failures_and_crashes_are_counted_apart,
        the_manifest_appears_with_the_success_and_only_then,
        progress_is_kept_and_events_have_no_gaps,
        pages_do_not_move_when_jobs_are_added,
        filters_and_counts_agree,
        jobs_can_be_filtered_by_their_type,
        standings_are_those_of_the_known_jobs,
        a_job_is_read_together_with_its_attempts,
        no_other_transition_can_be_written,
    );
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + seconds).unwrap()
}

fn new_job(model: &str, created: Timestamp) -> Job {
    let body = json!({"model": {"source": "local", "id": model}, "sparsity": 0.5, "name": "n", "metadata": {"k": "v"}});
    let request = JobRequest::parse(&body, Defaults::CPU).unwrap();
    let stamp = uuid::Timestamp::from_unix(uuid::NoContext, created.as_second().unsigned_abs(), 0);
    let mut job = Job::new(JobId::new(Uuid::new_v7(stamp)), request.spec, created);
    (job.name, job.metadata) = (request.name, request.metadata);
    job
}

/// A job of the type `evaluate` that names artifacts of other jobs.
fn new_evaluation(created: Timestamp) -> Job {
    let artifact = JobId::new(Uuid::from_u128(7)).to_string();
    let body = json!({
        "type": "evaluate", "model": {"source": "job", "id": artifact}, "baseline": "org/name",
        "evaluation": {"perplexity": ["demo"], "seq_len": 64},
    });
    Job {
        spec: JobRequest::parse(&body, Defaults::CPU).unwrap().spec,
        ..new_job("m", created)
    }
}

async fn insert(store: &dyn Store, seconds: i64) -> JobId {
    let job = new_job("m", at(seconds));
    store.insert_job(&job).await.unwrap();
    job.id
}

fn claim_at(worker: &str, now: Timestamp) -> Claim {
    Claim {
        worker_id: worker.to_owned(),
        device: "cpu".to_owned(),
        now,
        expires_at: now + Duration::from_mins(5),
    }
}

async fn claim(store: &dyn Store, worker: &str, seconds: i64) -> Option<Lease> {
    let job = store
        .claim_next_job(&claim_at(worker, at(seconds)))
        .await
        .unwrap();
    job.map(|job| Lease::of(&job).unwrap())
}

async fn job(store: &dyn Store, id: JobId) -> Job {
    store.lookup_job(id).await.unwrap().unwrap()
}

fn error(attempt: u32) -> JobError {
    let failure = AttemptFailure {
        code: ErrorCode::InsufficientDisk,
        message: "full".to_owned(),
        phase: Some(Phase::Pruning),
        retryable: true,
    };
    JobError { failure, attempt }
}

fn retry(attempt: u32, crashed: bool, run_after: Timestamp) -> Ending {
    Ending::Retry {
        error: error(attempt),
        crashed,
        run_after,
    }
}

fn succeeded(attempt: u32) -> Ending {
    Ending::Succeeded(Box::new(publication(attempt)))
}

async fn finish(store: &dyn Store, lease: &Lease, ending: &Ending) -> bool {
    let settled = store.finish(lease, ending, None, at(500)).await.unwrap();
    settled.is_some()
}

async fn attempts(store: &dyn Store, id: JobId) -> Vec<Attempt> {
    store.lookup_job_with_attempts(id).await.unwrap().unwrap().1
}

async fn cancel(store: &dyn Store, id: JobId, seconds: i64) -> Job {
    let cancelled = store.request_cancel(id, at(seconds)).await.unwrap();
    cancelled.unwrap().0
}

async fn a_job_comes_back_as_it_was_stored(store: &dyn Store) {
    let stored = new_job("m", at(0));
    store.insert_job(&stored).await.unwrap();
    assert_eq!(job(store, stored.id).await, stored);
    assert_eq!(
        store.lookup_job(new_job("m", at(0)).id).await.unwrap(),
        None
    );
    store.ping().await.unwrap();
}

async fn an_evaluation_comes_back_as_it_was_stored(store: &dyn Store) {
    let stored = new_evaluation(at(0));
    store.insert_job(&stored).await.unwrap();
    assert_eq!(job(store, stored.id).await, stored);
    let claimed = store.claim_next_job(&claim_at("a", at(1))).await.unwrap();
    let claimed = claimed.unwrap();
    assert_eq!(claimed.spec, stored.spec);
    let lease = Lease::of(&claimed).unwrap();
    let ending = Ending::Succeeded(Box::new(evaluation(1)));
    assert!(finish(store, &lease, &ending).await);
    let found = store.lookup_publication(stored.id).await.unwrap();
    assert_eq!(found, Some(evaluation(1)));
    let outcome = job(store, stored.id).await.outcome;
    assert_eq!(outcome, Some(evaluation(1).outcome()));
    let events = store.list_events(stored.id, 0, 100).await.unwrap();
    let end = EventKind::Succeeded { digest: None };
    assert_eq!(events.last().map(|event| &event.kind), Some(&end));
}

async fn the_oldest_job_is_claimed_first_and_not_before_its_time(store: &dyn Store) {
    let (later, sooner) = (insert(store, 2).await, insert(store, 1).await);
    assert_eq!(claim(store, "a", 0).await, None);
    assert_eq!(claim(store, "a", 5).await.unwrap().job_id, sooner);
    assert_eq!(claim(store, "a", 5).await.unwrap().job_id, later);
    assert_eq!(claim(store, "a", 5).await, None);
    let claimed = job(store, sooner).await;
    assert_eq!(
        (
            claimed.state,
            claimed.attempt,
            claimed.lease_owner.as_deref()
        ),
        (JobState::Running, 1, Some("a"))
    );
    assert_eq!(
        (claimed.started_at, claimed.lease_expires_at),
        (Some(at(5)), Some(at(305)))
    );
}

async fn two_claimers_never_get_the_same_job(store: &dyn Store) {
    const JOBS: usize = 20;
    for seconds in 0..20 {
        insert(store, seconds).await;
    }
    let take_all = async |worker: &'static str| {
        let mut taken = Vec::new();
        while let Some(lease) = claim(store, worker, 100).await {
            taken.push(lease.job_id);
        }
        taken
    };
    let (mut first, second) = tokio::join!(take_all("a"), take_all("b"));
    first.extend(second);
    first.sort_unstable();
    first.dedup();
    assert_eq!(first.len(), JOBS);
}

async fn a_heartbeat_moves_the_end_of_the_lease(store: &dyn Store) {
    let id = insert(store, 0).await;
    let lease = claim(store, "a", 1).await.unwrap();
    let version = job(store, id).await.version;
    assert_eq!(store.heartbeat(&lease, at(900)).await.unwrap(), Held::Yes);
    let renewed = job(store, id).await;
    assert_eq!(
        (renewed.lease_expires_at, renewed.version),
        (Some(at(900)), version)
    );
    let leased = Leased {
        lease,
        expires_at: at(900),
        phase: None,
        is_last_attempt: false,
    };
    assert_eq!(store.list_leased().await.unwrap(), [leased]);
}

/// Every write of an old holder, after somebody else took the job.
async fn a_lost_lease_writes_nothing(store: &dyn Store) {
    let id = insert(store, 0).await;
    let old = claim(store, "a", 1).await.unwrap();
    assert!(finish(store, &old, &retry(1, true, at(2))).await);
    // The same worker again: only the attempt tells the two leases apart.
    let new = claim(store, "a", 3).await.unwrap();
    assert_eq!(new.attempt, 2);
    let other_owner = Lease {
        owner: "b".to_owned(),
        ..new.clone()
    };
    let before = (
        job(store, id).await,
        store.list_events(id, 0, 100).await.unwrap(),
    );
    for lost in [&old, &other_owner] {
        assert_eq!(store.heartbeat(lost, at(900)).await.unwrap(), Held::Lost);
        assert_eq!(store.check_lease(lost).await.unwrap(), Held::Lost);
        assert_eq!(
            store
                .report(lost, &Report::Phase(Phase::Pruning), at(4))
                .await
                .unwrap(),
            Held::Lost
        );
        for ending in [
            succeeded(1),
            Ending::Failed {
                error: error(1),
                crashed: false,
            },
            retry(1, false, at(4)),
        ] {
            assert!(!finish(store, lost, &ending).await, "{ending:?}");
        }
        assert!(!finish(store, lost, &Ending::Cancelled).await);
        assert!(!finish(store, lost, &Ending::Released).await);
    }
    assert_eq!(
        (
            job(store, id).await,
            store.list_events(id, 0, 100).await.unwrap()
        ),
        before
    );
    assert_eq!(store.lookup_publication(id).await.unwrap(), None);
    assert!(finish(store, &new, &succeeded(2)).await);
    assert!(!finish(store, &new, &succeeded(2)).await);
}

async fn a_lease_renewed_meanwhile_is_not_reaped(store: &dyn Store) {
    let id = insert(store, 0).await;
    let lease = claim(store, "a", 1).await.unwrap();
    let seen = job(store, id).await.lease_expires_at;
    store.heartbeat(&lease, at(900)).await.unwrap();
    assert_eq!(
        store
            .finish(&lease, &retry(1, true, at(400)), seen, at(400))
            .await
            .unwrap(),
        None
    );
    assert_eq!(job(store, id).await.state, JobState::Running);
    assert!(
        store
            .finish(&lease, &retry(1, true, at(950)), Some(at(900)), at(950))
            .await
            .unwrap()
            .is_some()
    );
    assert_eq!(job(store, id).await.state, JobState::Queued);
}

async fn a_job_is_cancelled_from_each_state_as_the_state_machine_says(store: &dyn Store) {
    let queued = insert(store, 0).await;
    let cancelled = cancel(store, queued, 1).await;
    assert_eq!(
        (cancelled.state, cancelled.finished_at),
        (JobState::Cancelled, Some(at(1)))
    );
    // Again: nothing changes.
    assert_eq!(cancel(store, queued, 2).await, cancelled);

    let running = insert(store, 2).await;
    let lease = claim(store, "a", 3).await.unwrap();
    let cancelling = cancel(store, running, 4).await;
    assert_eq!(
        (cancelling.state, cancelling.finished_at),
        (JobState::Cancelling, None)
    );
    assert_eq!(cancel(store, running, 5).await, cancelling);
    for held in [
        store.check_lease(&lease).await.unwrap(),
        store.heartbeat(&lease, at(900)).await.unwrap(),
    ] {
        assert_eq!(held, Held::CancelRequested);
    }
    assert!(finish(store, &lease, &Ending::Cancelled).await);
    assert_eq!(job(store, running).await.state, JobState::Cancelled);

    for ending in [
        succeeded(1),
        Ending::Failed {
            error: error(1),
            crashed: false,
        },
    ] {
        let over = insert(store, 6).await;
        let lease = claim(store, "a", 7).await.unwrap();
        assert!(finish(store, &lease, &ending).await);
        let before = job(store, over).await;
        assert_eq!(cancel(store, over, 8).await, before);
    }
    assert_eq!(
        store
            .request_cancel(new_job("m", at(0)).id, at(9))
            .await
            .unwrap(),
        None
    );
}

async fn a_cancelled_job_is_not_tried_again(store: &dyn Store) {
    let last_crash = Ending::Failed {
        error: error(1),
        crashed: true,
    };
    for ending in [retry(1, true, at(5)), Ending::Released, last_crash] {
        let id = insert(store, 0).await;
        let lease = claim(store, "a", 1).await.unwrap();
        assert_eq!(store.check_lease(&lease).await.unwrap(), Held::Yes);
        cancel(store, id, 2).await;
        let settled = store.finish(&lease, &ending, None, at(500)).await.unwrap();
        let settled = settled.map(|settled| (settled.state, settled.outcome, settled.error));
        let expected = (JobState::Cancelled, AttemptOutcome::Cancelled, None);
        assert_eq!(settled, Some(expected));
        let job = job(store, id).await;
        assert_eq!((job.state, job.error), (JobState::Cancelled, None));
    }
}

async fn work_that_ended_before_the_cancellation_counts(store: &dyn Store) {
    let id = insert(store, 0).await;
    let lease = claim(store, "a", 1).await.unwrap();
    store.request_cancel(id, at(2)).await.unwrap();
    assert!(finish(store, &lease, &succeeded(1)).await);
    assert_eq!(job(store, id).await.state, JobState::Succeeded);
}

async fn an_attempt_given_back_does_not_count(store: &dyn Store) {
    let id = insert(store, 0).await;
    for round in 1..=MAX_ATTEMPTS + 2 {
        let lease = claim(store, "a", i64::from(round)).await.unwrap();
        assert_eq!(lease.attempt, round);
        assert!(finish(store, &lease, &Ending::Released).await);
    }
    let job = job(store, id).await;
    assert_eq!(
        (job.state, job.failed_attempts, job.crash_count),
        (JobState::Queued, 0, 0)
    );
    let attempts = attempts(store, id).await;
    assert!(
        attempts
            .iter()
            .all(|attempt| attempt.outcome == Some(AttemptOutcome::Released))
    );
}

async fn failures_and_crashes_are_counted_apart(store: &dyn Store) {
    let id = insert(store, 0).await;
    let lease = claim(store, "a", 1).await.unwrap();
    finish(store, &lease, &retry(1, false, at(10))).await;
    assert_eq!(claim(store, "a", 9).await, None);
    let lease = claim(store, "a", 10).await.unwrap();
    finish(store, &lease, &retry(2, true, at(10))).await;
    let waiting = job(store, id).await;
    assert_eq!(
        (waiting.failed_attempts, waiting.crash_count, waiting.error),
        (2, 1, Some(error(2)))
    );
    assert!(job(store, id).await.is_last_attempt());
    let lease = claim(store, "b", 10).await.unwrap();
    finish(
        store,
        &lease,
        &Ending::Failed {
            error: error(3),
            crashed: true,
        },
    )
    .await;
    let failed = job(store, id).await;
    assert_eq!(
        (failed.state, failed.crash_count, failed.finished_at),
        (JobState::Failed, 2, Some(at(500)))
    );
    let attempts = attempts(store, id).await;
    let outcomes: Vec<_> = attempts
        .iter()
        .map(|attempt| (attempt.attempt, attempt.outcome.unwrap()))
        .collect();
    let expected = [
        (1, AttemptOutcome::Failed),
        (2, AttemptOutcome::Crashed),
        (3, AttemptOutcome::Crashed),
    ];
    assert_eq!(outcomes, expected);
    assert_eq!(attempts[2].worker_id, "b");
}

async fn the_manifest_appears_with_the_success_and_only_then(store: &dyn Store) {
    let id = insert(store, 0).await;
    let lease = claim(store, "a", 1).await.unwrap();
    assert_eq!(store.lookup_publication(id).await.unwrap(), None);
    assert!(finish(store, &lease, &succeeded(1)).await);
    assert_eq!(
        store.lookup_publication(id).await.unwrap(),
        Some(publication(1))
    );
    let job = job(store, id).await;
    assert_eq!(
        (job.state, job.outcome),
        (JobState::Succeeded, Some(publication(1).outcome()))
    );
    assert_eq!((job.lease_owner, job.lease_expires_at), (None, None));
}

async fn progress_is_kept_and_events_have_no_gaps(store: &dyn Store) {
    let id = insert(store, 0).await;
    let lease = claim(store, "a", 1).await.unwrap();
    let step = Step {
        name: "blocks".to_owned(),
        finished: 1,
        total: 2,
        unit: "blocks".to_owned(),
        eta_seconds: Some(3),
    };
    let reports = [
        Report::Phase(Phase::Pruning),
        Report::Resumed {
            block: 1,
            blocks: 2,
        },
        Report::Step(step.clone()),
    ];
    for report in &reports {
        assert_eq!(
            store.report(&lease, report, at(2)).await.unwrap(),
            Held::Yes
        );
    }
    let running = job(store, id).await;
    assert_eq!(running.phase, Some(Phase::Pruning));
    assert_eq!(
        running
            .progress
            .map(|progress| (progress.step, progress.updated_at)),
        Some((step, at(2)))
    );
    finish(store, &lease, &succeeded(1)).await;
    let events = store.list_events(id, 0, 100).await.unwrap();
    assert_eq!(
        events.iter().map(|event| event.seq).collect::<Vec<_>>(),
        [1, 2, 3, 4, 5]
    );
    assert_eq!(store.list_events(id, 3, 1).await.unwrap(), events[3..4]);
}

/// A worker that says a queued or terminal job's attempt is over is not believed.
async fn no_other_transition_can_be_written(store: &dyn Store) {
    let id = insert(store, 0).await;
    let queued = Lease {
        job_id: id,
        attempt: 0,
        owner: String::new(),
    };
    assert!(!finish(store, &queued, &succeeded(0)).await);
    let lease = claim(store, "a", 1).await.unwrap();
    // Nobody asked for it: the store refuses rather than skip a state.
    assert!(
        store
            .finish(&lease, &Ending::Cancelled, None, at(2))
            .await
            .is_err()
    );
    assert_eq!(job(store, id).await.state, JobState::Running);
}
