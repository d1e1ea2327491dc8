//! What is asked of a job: to pause, to go on, to be tried again, to be forgotten; and what its deadline does.

use std::collections::BTreeMap;

use super::*;

pub(super) async fn a_job_is_paused_and_resumed(store: &TestStore) {
    let id = insert(store, 0).await;
    let paused = ask(store, id, Action::Pause, 1).await;
    assert_eq!((paused.state, paused.finished_at), (JobState::Paused, None));
    assert_eq!(claim(store, "a", 2).await, None);
    let resumed = ask(store, id, Action::Resume, 3).await;
    assert_eq!(
        (resumed.state, resumed.queued_at),
        (JobState::Queued, at(3))
    );

    let lease = claim(store, "a", 4).await.unwrap();
    assert_eq!(
        ask(store, id, Action::Pause, 5).await.state,
        JobState::Pausing
    );
    for held in [
        store.check_lease(&lease).await.unwrap(),
        store.heartbeat(&lease, LEASE).await.unwrap(),
        store
            .report(&lease, &Report::Phase(Phase::Pruning, Overall::default()))
            .await
            .unwrap(),
    ] {
        assert_eq!(held, LeaseCheck::PauseRequested);
    }
    // It has not stopped yet.
    assert_eq!(
        ask(store, id, Action::Resume, 6).await.state,
        JobState::Pausing
    );
    assert!(finish(store, &lease, &AttemptEnd::Paused).await);
    let job = job(store, id).await;
    assert_eq!((job.state, job.failed_attempts), (JobState::Paused, 0));
    assert_eq!(job.lease_owner, None);
    let outcome = attempts(store, id).await[0].outcome;
    assert_eq!(outcome, Some(AttemptOutcome::Paused));
    ask(store, id, Action::Resume, 600).await;
    assert_eq!(claim(store, "b", 600).await.unwrap().attempt, 2);
}

pub(super) async fn what_ends_while_a_job_shall_pause_leaves_it_paused_or_over(store: &TestStore) {
    let crash = AttemptEnd::Failed {
        error: error(1),
        crashed: true,
    };
    for (ending, state, failed_attempts) in [
        (succeeded(1), JobState::Succeeded, 0),
        (crash, JobState::Failed, 1),
        (retry(1, true, 5), JobState::Paused, 1),
        (AttemptEnd::Released, JobState::Paused, 0),
    ] {
        let id = insert(store, 0).await;
        let lease = claim(store, "a", 1).await.unwrap();
        ask(store, id, Action::Pause, 2).await;
        assert!(finish(store, &lease, &ending).await, "{ending:?}");
        let job = job(store, id).await;
        assert_eq!((job.state, job.failed_attempts), (state, failed_attempts));
    }
    let id = insert(store, 0).await;
    let lease = claim(store, "a", 1).await.unwrap();
    ask(store, id, Action::Pause, 2).await;
    assert_eq!(cancel(store, id, 3).await.state, JobState::Cancelling);
    assert!(finish(store, &lease, &AttemptEnd::Paused).await);
    assert_eq!(job(store, id).await.state, JobState::Cancelled);
}

pub(super) async fn a_job_that_is_over_is_tried_again_with_a_fresh_budget(store: &TestStore) {
    let id = insert(store, 0).await;
    let lease = claim(store, "a", 1).await.unwrap();
    let crash = AttemptEnd::Failed {
        error: error(1),
        crashed: true,
    };
    finish_at(store, &lease, &crash, 2).await;
    let retried = ask(store, id, Action::Retry, 3).await;
    assert_eq!((retried.state, retried.attempt), (JobState::Queued, 1));
    assert_eq!((retried.failed_attempts, retried.crash_count), (0, 0));
    assert_eq!(
        (retried.error, retried.finished_at, retried.phase),
        (None, None, None)
    );
    let lease = claim(store, "a", 4).await.unwrap();
    assert_eq!(lease.attempt, 2);
    assert!(finish_at(store, &lease, &succeeded(2), 5).await);
    assert_eq!(
        ask(store, id, Action::Retry, 6).await.state,
        JobState::Succeeded
    );
}

pub(super) async fn a_job_that_is_tried_again_still_waits_for_its_time(store: &TestStore) {
    let delayed = Job {
        run_after: at(60),
        ..new_job("m", at(0))
    };
    let id = store.at(0).insert_job(&delayed).await.unwrap().id;
    cancel(store, id, 1).await;
    assert_eq!(ask(store, id, Action::Retry, 2).await.run_after, at(60));
    assert_eq!(claim(store, "a", 59).await, None);
    cancel(store, id, 60).await;
    assert_eq!(ask(store, id, Action::Retry, 61).await.run_after, at(61));
    // What it waits for after an attempt is another thing: a fresh budget ends that.
    let lease = claim(store, "a", 61).await.unwrap();
    finish_at(store, &lease, &retry(1, true, 600), 62).await;
    cancel(store, id, 63).await;
    assert_eq!(ask(store, id, Action::Retry, 64).await.run_after, at(64));
    assert_eq!(claim(store, "a", 64).await.unwrap().job_id, id);
}

pub(super) async fn a_deleted_job_is_gone_and_known_to_be(store: &TestStore) {
    let id = insert(store, 0).await;
    assert_eq!(
        ask(store, id, Action::Delete, 1).await.state,
        JobState::Queued
    );
    let lease = claim(store, "a", 1).await.unwrap();
    finish_at(store, &lease, &succeeded(1), 2).await;
    assert_eq!(
        ask(store, id, Action::Delete, 3).await.state,
        JobState::Succeeded
    );
    assert_eq!(store.lookup_job(id).await.unwrap(), None);
    assert_eq!(store.lookup_publication(id).await.unwrap(), None);
    assert_eq!(store.list_events(id, 0, 10).await.unwrap(), []);
    assert_eq!(store.request(id, Action::Delete, None).await.unwrap(), None);
    let told = store.list_all_events(0, 10).await.unwrap();
    let told = told.into_iter().map(|told| told.event.unwrap().kind);
    let freed_bytes = publication(1).size_bytes();
    assert!(freed_bytes > 0);
    assert_eq!(
        told.collect::<Vec<_>>(),
        [EventKind::Deleted { freed_bytes }]
    );
    let deleted = async || {
        store
            .list_deleted(&[id, new_job("m", at(0)).id])
            .await
            .unwrap()
    };
    assert_eq!(deleted().await.into_iter().collect::<Vec<_>>(), [id]);
    store
        .at(63)
        .forget_deleted(Duration::from_mins(1))
        .await
        .unwrap();
    assert_eq!(deleted().await.len(), 1);
    store
        .at(64)
        .forget_deleted(Duration::from_mins(1))
        .await
        .unwrap();
    assert!(deleted().await.is_empty());
}

pub(super) async fn an_artifact_that_a_job_works_on_is_not_deleted(store: &TestStore) {
    let source = insert(store, 0).await;
    let lease = claim(store, "a", 1).await.unwrap();
    finish_at(store, &lease, &succeeded(1), 2).await;
    let user = evaluation_of(source, at(3));
    store.at(3).insert_job(&user).await.unwrap();
    let delete = async || store.request(source, Action::Delete, None).await.unwrap();
    assert_eq!(delete().await, Some(Requested::InUse(user.id)));
    ask(store, user.id, Action::Cancel, 4).await;
    assert!(matches!(delete().await, Some(Requested::Done(..))));
}

pub(super) async fn what_is_over_for_long_is_found_unless_it_is_kept_or_in_use(store: &TestStore) {
    let source = insert(store, 0).await;
    let lease = claim(store, "a", 1).await.unwrap();
    finish_at(store, &lease, &succeeded(1), 2).await;
    let user = evaluation_of(source, at(3));
    store.at(3).insert_job(&user).await.unwrap();
    let other = insert(store, 4).await;
    ask(store, other, Action::Cancel, 5).await;
    let found = async || {
        let found = store.at(100).list_expired(Duration::from_secs(90), 0);
        let found = found.await.unwrap().into_iter();
        found.map(|(id, _)| id).collect::<Vec<_>>()
    };
    assert_eq!(found().await, [other]);
    ask(store, user.id, Action::Cancel, 6).await;
    assert_eq!(found().await, [source, other, user.id]);
    let rest = store.at(100).list_expired(Duration::from_secs(90), 2).await;
    assert_eq!(rest.unwrap()[0].0, user.id);
    // Whoever found it before that changes nothing any more.
    let version = job(store, other).await.version;
    let kept = store.set_kept(other, true, None).await.unwrap();
    assert!(matches!(kept, Some(Requested::Done(..))), "{kept:?}");
    assert_eq!(found().await, [source, user.id]);
    let deleted = store.request(other, Action::Delete, Some(version));
    assert_eq!(deleted.await.unwrap(), Some(Requested::Stale(version + 1)));
}

pub(super) async fn no_job_works_on_an_artifact_that_is_deleted_meanwhile(store: &TestStore) {
    for _ in 0..20 {
        let source = insert(store, 0).await;
        let lease = claim(store, "a", 1).await.unwrap();
        finish_at(store, &lease, &succeeded(1), 2).await;
        let user = evaluation_of(source, at(3));
        let (inserted, deleted) = tokio::join!(
            store.insert_job(&user),
            store.request(source, Action::Delete, None)
        );
        match (inserted, deleted.unwrap().unwrap()) {
            (Ok(_), Requested::InUse(by)) => assert_eq!(by, user.id),
            (Err(StoreError::SourceGone(gone)), Requested::Done(..)) => assert_eq!(gone, source),
            other => panic!("{other:?}"),
        }
        let is_stored = store.lookup_job(user.id).await.unwrap().is_some();
        assert_eq!(is_stored, store.lookup_job(source).await.unwrap().is_some());
        if is_stored {
            ask(store, user.id, Action::Cancel, 4).await;
        }
    }
    let source = insert(store, 0).await;
    ask(store, source, Action::Cancel, 1).await;
    ask(store, source, Action::Delete, 2).await;
    let refused = store.insert_job(&evaluation_of(source, at(3))).await;
    assert!(matches!(refused, Err(StoreError::SourceGone(gone)) if gone == source));
}

pub(super) async fn a_version_that_is_not_the_jobs_changes_nothing(store: &TestStore) {
    let id = insert(store, 0).await;
    let before = job(store, id).await;
    for action in [Action::Cancel, Action::Pause, Action::Delete] {
        let requested = store.request(id, action, Some(before.version + 1)).await;
        assert_eq!(requested.unwrap(), Some(Requested::Stale(before.version)));
    }
    assert_eq!(job(store, id).await, before);
    let requested = store.request(id, Action::Pause, Some(before.version)).await;
    let Some(Requested::Done(paused, _)) = requested.unwrap() else {
        panic!("the version is the job's");
    };
    assert_eq!(paused.version, before.version + 1);
}

pub(super) async fn a_deadline_ends_what_nobody_works_on(store: &TestStore) {
    let insert = async |after: u64| {
        let mut job = new_job("m", at(0));
        job.scheduling.deadline_after = Some(Duration::from_secs(after));
        store.at(0).insert_job(&job).await.unwrap().id
    };
    let (queued, paused, running) = (insert(20).await, insert(20).await, insert(10).await);
    ask(store, paused, Action::Pause, 1).await;
    ask(store, queued, Action::Pause, 1).await;
    let lease = claim(store, "a", 9).await.unwrap();
    assert_eq!(lease.job_id, running);
    ask(store, queued, Action::Resume, 10).await;
    assert_eq!(store.at(19).fail_overdue().await.unwrap(), []);
    // Past its deadline, and not ended yet: nobody begins with it.
    assert_eq!(claim(store, "a", 20).await, None);
    let mut ended = store.at(20).fail_overdue().await.unwrap();
    ended.sort_unstable();
    let mut expected = [queued, paused];
    expected.sort_unstable();
    assert_eq!(ended, expected);
    for id in expected {
        let job = job(store, id).await;
        assert_eq!(
            (job.state, job.finished_at),
            (JobState::Failed, Some(at(20)))
        );
        let failure = job.error.unwrap().failure;
        assert_eq!(failure.code, ErrorCode::DeadlineExceeded);
        assert!(!failure.retryable);
    }
    assert_eq!(job(store, running).await.state, JobState::Running);
    assert_eq!(store.at(30).fail_overdue().await.unwrap(), []);
    let retried = ask(store, queued, Action::Retry, 40).await;
    assert_eq!(retried.scheduling.deadline_at, Some(at(60)));
}

/// Many write at once, and a reader who goes on after the last number that it saw misses none.
pub(super) async fn events_of_all_jobs_are_numbered_as_they_become_visible(store: &TestStore) {
    const JOBS: usize = 30;
    let ids: Vec<_> = (0..JOBS).map(|_| new_job("m", at(0))).collect();
    let write = async |job: &Job| {
        store.insert_job(job).await.unwrap();
        ask(store, job.id, Action::Pause, 0).await;
        ask(store, job.id, Action::Resume, 0).await;
    };
    let read = async {
        let mut seen: Vec<(u64, JobId, u64)> = Vec::new();
        while seen.len() < 3 * JOBS {
            let after = seen.last().map_or(0, |(number, ..)| *number);
            let found = store.list_all_events(after, 7).await.unwrap();
            seen.extend(
                found
                    .into_iter()
                    .map(|e| (e.number, e.job_id, e.event.unwrap().seq)),
            );
        }
        seen
    };
    let (_, seen) = tokio::join!(futures::future::join_all(ids.iter().map(write)), read);
    assert!(seen.is_sorted_by(|a, b| a.0 < b.0), "{seen:?}");
    let mut last = BTreeMap::new();
    for (_, id, seq) in &seen {
        assert_eq!(last.insert(*id, *seq).unwrap_or(0) + 1, *seq);
    }
    assert_eq!(store.last_event_number().await.unwrap(), 90);
}
