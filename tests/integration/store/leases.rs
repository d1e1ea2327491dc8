//! Who holds a job, until when, and what its end counts as.

use secateur::domain::job::attempt_end::Lacks;
use secateur::domain::job::retry::RetryPolicy;
use secateur::domain::job::scheduling::Scheduling;
use secateur::domain::worker::Device;

use super::*;
use crate::support::test_app::cpu;

pub(super) async fn a_heartbeat_moves_the_end_of_the_lease(store: &TestStore) {
    let id = insert(store, 0).await;
    let lease = claim(store, "a", 1).await.unwrap();
    let version = job(store, id).await.version;
    let held = store.at(600).heartbeat(&lease, LEASE).await;
    assert_eq!(held.unwrap(), LeaseCheck::Valid);
    let renewed = job(store, id).await;
    assert_eq!(
        (renewed.lease_expires_at, renewed.version),
        (Some(at(900)), version)
    );
    let leased = LeaseInfo {
        lease,
        expires_at: at(900),
        is_over: false,
        phase: None,
        budget: Budget {
            failed: 0,
            max: MAX_ATTEMPTS,
        },
    };
    let found = store.at(899).list_leases().await.unwrap();
    assert_eq!(found, std::slice::from_ref(&leased));
    let over = LeaseInfo {
        is_over: true,
        ..leased
    };
    assert_eq!(store.at(900).list_leases().await.unwrap(), [over]);
}

/// Every write of an old holder, after somebody else took the job.
pub(super) async fn a_lost_lease_writes_nothing(store: &TestStore) {
    let id = insert(store, 0).await;
    let old = claim(store, "a", 1).await.unwrap();
    assert!(finish_at(store, &old, &retry(1, true, 0), 2).await);
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
        assert_eq!(
            store.heartbeat(lost, LEASE).await.unwrap(),
            LeaseCheck::Lost
        );
        assert_eq!(store.check_lease(lost).await.unwrap(), LeaseCheck::Lost);
        assert_eq!(
            store
                .report(lost, &Report::Phase(Phase::Pruning, Overall::default()))
                .await
                .unwrap(),
            LeaseCheck::Lost
        );
        for ending in [
            succeeded(1),
            AttemptEnd::Failed {
                error: error(1),
                crashed: false,
            },
            retry(1, false, 0),
        ] {
            assert!(!finish(store, lost, &ending).await, "{ending:?}");
        }
        assert!(!finish(store, lost, &AttemptEnd::Cancelled).await);
        assert!(!finish(store, lost, &AttemptEnd::Released).await);
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

pub(super) async fn a_lease_renewed_meanwhile_is_not_reaped(store: &TestStore) {
    let id = insert(store, 0).await;
    let lease = claim(store, "a", 1).await.unwrap();
    let seen = job(store, id).await.lease_expires_at;
    store.at(300).heartbeat(&lease, LEASE).await.unwrap();
    assert_eq!(
        store
            .at(400)
            .finish(&lease, &retry(1, true, 0), seen)
            .await
            .unwrap(),
        None
    );
    assert_eq!(job(store, id).await.state, JobState::Running);
    assert!(
        store
            .at(950)
            .finish(&lease, &retry(1, true, 0), Some(at(600)))
            .await
            .unwrap()
            .is_some()
    );
    assert_eq!(job(store, id).await.state, JobState::Queued);
}

pub(super) async fn an_attempt_given_back_does_not_count(store: &TestStore) {
    let id = insert(store, 0).await;
    for round in 1..=MAX_ATTEMPTS + 2 {
        let lease = claim(store, "a", i64::from(round)).await.unwrap();
        assert_eq!(lease.attempt, round);
        assert!(finish(store, &lease, &AttemptEnd::Released).await);
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

pub(super) async fn failures_and_crashes_are_counted_apart(store: &TestStore) {
    let id = insert(store, 0).await;
    let lease = claim(store, "a", 1).await.unwrap();
    finish_at(store, &lease, &retry(1, false, 8), 2).await;
    assert_eq!(claim(store, "a", 9).await, None);
    let lease = claim(store, "a", 10).await.unwrap();
    finish_at(store, &lease, &retry(2, true, 0), 10).await;
    let waiting = job(store, id).await;
    assert_eq!(
        (waiting.failed_attempts, waiting.crash_count, waiting.error),
        (2, 1, Some(error(2)))
    );
    assert!(Budget::of(&job(store, id).await).is_last_attempt());
    let lease = claim(store, "b", 10).await.unwrap();
    finish(
        store,
        &lease,
        &AttemptEnd::Failed {
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

/// The copy of an attempt before takes up the disk that the job was submitted with.
pub(super) async fn what_an_attempt_lacked_is_asked_of_the_next_worker(store: &TestStore) {
    const GIB: u64 = 1 << 30;
    let job = Job {
        scheduling: Scheduling {
            disk_bytes: Some(14 * GIB),
            ..Scheduling::default()
        },
        ..new_job("m", at(0))
    };
    store.at(0).insert_job(&job).await.unwrap();
    let claimed = async |disk: u64, memory: u64| {
        let device = Device {
            memory_bytes: Some(memory * GIB),
            ..cpu()
        };
        let claim = Claim {
            free_disk_bytes: Some(disk * GIB),
            device,
            ..claim_by("a")
        };
        let claimed = store.at(100).claim_next_job(&claim).await.unwrap();
        claimed.map(|job| Lease::of(&job).unwrap())
    };
    assert_eq!(claimed(13, 1).await, None);
    let first = claimed(14, 1).await.unwrap();
    assert!(finish_at(store, &first, &AttemptEnd::Released, 100).await);
    let second = claimed(1, 1).await.unwrap();
    let lacks = Lacks {
        disk_bytes: Some(3 * GIB),
        memory_bytes: Some(2 * GIB),
    };
    let waiting = RetryPolicy::AT_ONCE.wait(error(2), lacks);
    assert!(finish_at(store, &second, &waiting, 100).await);
    assert_eq!(claimed(2, 2).await, None);
    assert_eq!(claimed(3, 1).await, None);
    let third = claimed(3, 2).await.unwrap();
    assert!(finish_at(store, &third, &retry(3, false, 0), 100).await);
    assert_eq!(claimed(1, 1).await, None, "its memory is known for good");
    assert!(claimed(1, 2).await.is_some());
}

pub(super) async fn of_many_attempts_the_newest_are_shown(store: &TestStore) {
    let id = insert(store, 0).await;
    for round in 1..=52 {
        let lease = claim(store, "a", round).await.unwrap();
        assert!(finish(store, &lease, &AttemptEnd::Released).await);
    }
    let shown: Vec<_> = attempts(store, id).await;
    let shown: Vec<_> = shown.iter().map(|attempt| attempt.attempt).collect();
    assert_eq!(shown, (3..=52).collect::<Vec<_>>());
    let log = store.list_attempt_events(id, 52).await.unwrap();
    let kinds: Vec<_> = log.into_iter().map(|event| event.kind).collect();
    assert!(
        matches!(kinds[..], [EventKind::Started { .. }, EventKind::Released]),
        "{kinds:?}"
    );
}
