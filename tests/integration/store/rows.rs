//! What others write into the rows: another version of the program, several workers at once, somebody by hand.

use std::collections::BTreeSet;

use secateur::domain::queue::WaitReason;
use secateur::domain::spec::SPEC_VERSION;
use secateur::domain::worker::WorkerProfile;

use super::*;

/// Damaged, as no version of the program leaves it.
async fn make_unreadable(store: &TestStore, id: JobId) {
    let statement = format!(
        "update jobs set spec = '{{}}', phase = 'polishing', metadata = '', commits = '' where id = '{id}'"
    );
    assert_eq!(store.database.execute(&statement).await.unwrap(), 1);
}

pub(super) async fn an_unreadable_job_fails_when_its_turn_comes_and_the_next_one_is_claimed(
    store: &TestStore,
) {
    let (broken, whole) = (insert(store, 0).await, insert(store, 1).await);
    make_unreadable(store, broken).await;
    assert_eq!(claim(store, "a", 5).await.unwrap().job_id, whole);
    assert_eq!(
        store.list_statuses(&[broken]).await.unwrap()[&broken].state,
        JobState::Failed
    );
    let events = store.list_events(broken, 0, 100).await.unwrap();
    let EventKind::Failed { error } = &events.last().unwrap().kind else {
        panic!("{events:?}");
    };
    assert_eq!(error.failure.code, ErrorCode::Internal);
    let message = &error.failure.message;
    assert!(message.contains("cannot be read"), "{message}");
    assert_eq!(claim(store, "a", 5).await, None);
}

/// As a newer version might leave it.
async fn make_newer(store: &TestStore, id: JobId) {
    let statement = format!(
        "update jobs set spec = '{{\"novelty\":1}}', phase = 'polishing', spec_version = {} where id = '{id}'",
        SPEC_VERSION + 1
    );
    assert_eq!(store.database.execute(&statement).await.unwrap(), 1);
}

pub(super) async fn a_job_of_a_newer_spec_version_waits_for_a_worker_that_can_run_it(
    store: &TestStore,
) {
    let (newer, known) = (insert(store, 0).await, insert(store, 1).await);
    let spec = job(store, newer).await.spec;
    make_newer(store, newer).await;
    let found = job(store, newer).await;
    assert_eq!((found.state, found.spec.known()), (JobState::Queued, None));
    assert_eq!(found.spec.job_type(), "prune");
    assert_eq!(claim(store, "a", 5).await.unwrap().job_id, known);
    assert_eq!(claim(store, "a", 5).await, None);
    assert_eq!(job(store, newer).await.state, JobState::Queued);
    // As if this worker were of the newer version.
    let statement = format!(
        "update jobs set spec = '{}', phase = null, spec_version = {SPEC_VERSION} where id = '{newer}'",
        serde_json::to_string(&spec).unwrap()
    );
    assert_eq!(store.database.execute(&statement).await.unwrap(), 1);
    assert_eq!(claim(store, "a", 5).await.unwrap().job_id, newer);
}

pub(super) async fn a_job_of_an_older_spec_version_fits_older_workers(store: &TestStore) {
    let id = insert(store, 0).await;
    let profile = WorkerProfile::new(
        "old".to_owned(),
        "host".to_owned(),
        &["cpu".to_owned()],
        None,
    );
    let older = WorkerProfile {
        spec_version: SPEC_VERSION - 1,
        ..profile.unwrap()
    };
    store.at(1).announce_worker(&older, LEASE).await.unwrap();
    let reason = async || {
        let cluster = store.at(2).cluster_state().await.unwrap();
        cluster.why_waits(&job(store, id).await).unwrap().reason
    };
    assert_eq!(reason().await, WaitReason::NoWorkerFits);
    let statement = format!(
        "update jobs set spec_version = {} where id = '{id}'",
        SPEC_VERSION - 1
    );
    assert_eq!(store.database.execute(&statement).await.unwrap(), 1);
    assert_eq!(reason().await, WaitReason::WaitingForWorker);
}

pub(super) async fn a_job_of_a_newer_spec_version_can_be_ended_and_deleted(store: &TestStore) {
    let mut ids = Vec::new();
    for seconds in 0..3 {
        let mut job = new_job("m", at(seconds));
        job.scheduling.deadline_after = Some(Duration::from_secs(10));
        ids.push(store.at(0).insert_job(&job).await.unwrap().id);
        make_newer(store, ids[0]).await;
    }
    let cancelled = cancel(store, ids[0], 1).await;
    assert_eq!(
        (cancelled.state, cancelled.spec.known()),
        (JobState::Cancelled, None)
    );
    let deleted = store.request(ids[0], Action::Delete, None).await.unwrap();
    assert!(matches!(deleted, Some(Requested::Done(..))), "{deleted:?}");
    make_newer(store, ids[1]).await;
    assert_eq!(store.at(20).fail_overdue().await.unwrap(), ids[1..]);
    let failed = job(store, ids[1]).await;
    assert_eq!(
        failed.error.unwrap().failure.code,
        ErrorCode::DeadlineExceeded
    );
}

pub(super) async fn a_damaged_job_is_left_out_of_lists_and_pages_stay_full(store: &TestStore) {
    let mut ids = Vec::new();
    for seconds in 0..5 {
        ids.push(insert(store, seconds).await);
    }
    let statement = format!("update jobs set version = -1 where id = '{}'", ids[3]);
    assert_eq!(store.database.execute(&statement).await.unwrap(), 1);
    for (before, expected) in [
        (None, vec![ids[4], ids[2]]),
        (Some(ids[2]), vec![ids[1], ids[0]]),
    ] {
        let page = store.list_jobs(&JobFilter::default(), before, 2).await;
        let page: Vec<_> = page.unwrap().into_iter().map(|job| job.id).collect();
        assert_eq!(page, expected);
    }
}

pub(super) async fn the_lease_of_an_unreadable_job_can_be_ended(store: &TestStore) {
    let id = insert(store, 0).await;
    let lease = claim(store, "a", 1).await.unwrap();
    make_unreadable(store, id).await;
    let leased = store.list_leases().await.unwrap();
    assert_eq!((&leased[0].lease, leased[0].phase), (&lease, None));
    assert!(finish(store, &leased[0].lease, &retry(1, true, 0)).await);
}

pub(super) async fn an_unreadable_job_can_be_ended_and_deleted(store: &TestStore) {
    let ask = async |id, action, version| store.request(id, action, version).await.unwrap();
    let state = |requested| match requested {
        Some(Requested::Done(job, _) | Requested::Unchanged(job, _)) => Some(job.state),
        _ => None,
    };
    let running = insert(store, 0).await;
    let lease = claim(store, "a", 1).await.unwrap();
    make_unreadable(store, running).await;
    assert_eq!(
        state(ask(running, Action::Cancel, None).await),
        Some(JobState::Cancelling)
    );
    assert_eq!(
        store.check_lease(&lease).await.unwrap(),
        LeaseCheck::CancelRequested
    );
    assert!(finish(store, &lease, &AttemptEnd::Cancelled).await);

    let paused = insert(store, 0).await;
    let version = super::ask(store, paused, Action::Pause, 1).await.version;
    make_unreadable(store, paused).await;
    assert_eq!(
        ask(paused, Action::Cancel, Some(version + 1)).await,
        Some(Requested::Stale(version))
    );
    assert_eq!(
        ask(paused, Action::Delete, None).await,
        Some(Requested::NotAllowed(JobState::Paused))
    );
    for _ in 0..2 {
        assert_eq!(
            state(ask(paused, Action::Cancel, None).await),
            Some(JobState::Cancelled)
        );
    }
    for id in [running, paused] {
        assert_eq!(
            state(ask(id, Action::Delete, None).await),
            Some(JobState::Cancelled)
        );
        assert_eq!(ask(id, Action::Delete, None).await, None);
    }
    let deleted = store.list_deleted(&[running, paused]).await.unwrap();
    assert_eq!(deleted, BTreeSet::from([running, paused]));
}

pub(super) async fn an_unreadable_job_keeps_no_other_from_its_deadline(store: &TestStore) {
    let mut ids = Vec::new();
    for seconds in 0..3 {
        let mut job = new_job("m", at(seconds));
        job.scheduling.deadline_after = Some(Duration::from_secs(10));
        ids.push(store.at(0).insert_job(&job).await.unwrap().id);
    }
    // The first of them not even in the columns that every version can read.
    let statement = format!(
        "update jobs set queued_at = {} where id = '{}'",
        i64::MAX,
        ids[0]
    );
    assert_eq!(store.database.execute(&statement).await.unwrap(), 1);
    make_unreadable(store, ids[1]).await;
    assert_eq!(store.at(20).fail_overdue().await.unwrap(), ids[1..]);
    assert_eq!(job(store, ids[2]).await.state, JobState::Failed);
}

/// While this version runs and has prepared its statements.
pub(super) async fn a_column_that_a_newer_version_adds_stops_nobody(store: &TestStore) {
    let (first, second) = (insert(store, 0).await, insert(store, 1).await);
    assert_eq!(claim(store, "a", 2).await.unwrap().job_id, first);
    store.lookup_job_with_attempts(first).await.unwrap();
    for table in ["jobs", "attempts", "events", "publications"] {
        let statement = format!("alter table {table} add column novelty text");
        store.database.execute(&statement).await.unwrap();
    }
    let lease = claim(store, "a", 3).await.unwrap();
    assert_eq!(lease.job_id, second);
    assert_eq!(cancel(store, second, 4).await.state, JobState::Cancelling);
    assert!(finish(store, &lease, &succeeded(1)).await);
    assert_eq!(attempts(store, second).await.len(), 1);
    assert_eq!(store.list_events(second, 0, 10).await.unwrap().len(), 4);
    assert!(store.lookup_publication(second).await.unwrap().is_some());
    let all = store.list_jobs(&JobFilter::default(), None, 10).await;
    assert_eq!(all.unwrap().len(), 2);
}

/// More workers than connections, each of which takes what it can get.
pub(super) async fn a_job_is_claimed_once_by_however_many_ask(store: &TestStore) {
    const JOBS: i64 = 100;
    for seconds in 0..JOBS {
        insert(store, seconds).await;
    }
    store.at(JOBS);
    let workers: Vec<_> = (0..16).map(|worker| format!("w{worker}")).collect();
    let take_all = async |worker: &str| {
        let mut taken = Vec::new();
        while let Some(job) = store.claim_next_job(&claim_by(worker)).await.unwrap() {
            assert_eq!(job.lease_owner.as_deref(), Some(worker));
            taken.push(job.id);
        }
        taken
    };
    let taken = futures::future::join_all(workers.iter().map(|worker| take_all(worker))).await;
    let taken = taken.concat();
    let distinct: BTreeSet<_> = taken.iter().collect();
    assert_eq!((taken.len(), distinct.len()), (100, 100));
}

/// A job in this state; every other job of the store is past being claimed.
async fn job_in(state: JobState, store: &TestStore) -> JobId {
    let id = insert(store, 0).await;
    if state == JobState::Queued {
        return id;
    }
    let lease = claim(store, "w", 1).await.unwrap();
    if matches!(state, JobState::Cancelling | JobState::Cancelled) {
        cancel(store, id, 2).await;
    }
    if matches!(state, JobState::Pausing | JobState::Paused) {
        ask(store, id, Action::Pause, 2).await;
    }
    let ending = match state {
        JobState::Queued | JobState::Running | JobState::Pausing | JobState::Cancelling => {
            return id;
        }
        JobState::Paused => AttemptEnd::Paused,
        JobState::Succeeded => succeeded(1),
        JobState::Cancelled => AttemptEnd::Cancelled,
        JobState::Failed => AttemptEnd::Failed {
            error: error(1),
            crashed: true,
        },
    };
    let settled = store.finish(&lease, &ending, None).await.unwrap();
    assert_eq!(settled.map(|settled| settled.state), Some(state));
    id
}

/// Whatever a statement says.
pub(super) async fn the_database_takes_exactly_the_transitions_of_the_state_machine(
    store: &TestStore,
) {
    for from in JobState::ALL {
        for to in JobState::ALL {
            let id = job_in(from, store).await;
            let lease = if to.is_held() {
                "lease_owner = 'w', lease_expires_at = 0"
            } else {
                "lease_owner = null, lease_expires_at = null"
            };
            let to_word = to.as_str();
            let statement =
                format!("update jobs set state = '{to_word}', {lease} where id = '{id}'");
            let is_taken = store.database.execute(&statement).await.is_ok();
            let is_allowed = from == to || from.may_become(to);
            assert_eq!(is_taken, is_allowed, "{from:?} to {to:?}");
            // Out of the way of the next one.
            let delete = format!("delete from jobs where id = '{id}'");
            assert_eq!(store.database.execute(&delete).await.unwrap(), 1);
        }
    }
}

pub(super) async fn nobody_claims_once_a_newer_version_has_changed_the_schema(store: &TestStore) {
    let id = insert(store, 0).await;
    let newer = "update secateur_migrations set version = version + 9000 where version > 1";
    assert!(store.database.execute(newer).await.unwrap() > 0);
    let refused = store.at(5).claim_next_job(&claim_by("a")).await;
    assert!(
        matches!(&refused, Err(StoreError::Schema { found, known }) if found > known),
        "{refused:?}"
    );
    assert_eq!(job(store, id).await.state, JobState::Queued);
}
