//! What every [`Store`] must do. The functions take any store; each of them is run on each database.

use std::time::Duration;

use jiff::Timestamp;
use secateur::domain::ErrorCode;
use secateur::domain::JobId;
use secateur::domain::job::attempt_end::AttemptEnd;
use secateur::domain::job::event::{Attempt, AttemptOutcome, EventKind};
use secateur::domain::job::failure::AttemptFailure;
use secateur::domain::job::failure::JobError;
use secateur::domain::job::progress::{Overall, Phase, Progress, Step};
use secateur::domain::job::retry::Budget;
use secateur::domain::job::state::{Action, JobState};
use secateur::domain::job::{Job, JobFilter, MAX_ATTEMPTS};
use secateur::domain::spec::JobType;
use secateur::store::{
    Claim, Lease, LeaseCheck, LeaseInfo, Report, Requested, Store, StoreError, Time,
};

use crate::support::database::Database;
use crate::support::test_app::{evaluation, publication};
use bench::*;
use keys::{
    a_job_that_cannot_be_stored_leaves_no_key,
    a_job_that_does_the_same_work_is_found_until_it_fails, a_key_is_forgotten_after_a_day,
    a_key_makes_one_job_and_gives_its_answer_again,
    however_many_ask_for_the_same_work_one_job_is_made,
    however_many_ask_under_one_key_one_job_is_made,
    of_jobs_of_the_same_work_one_that_succeeded_is_found_first,
};
use leases::{
    a_heartbeat_moves_the_end_of_the_lease, a_lease_renewed_meanwhile_is_not_reaped,
    a_lost_lease_writes_nothing, an_attempt_given_back_does_not_count,
    failures_and_crashes_are_counted_apart, of_many_attempts_the_newest_are_shown,
    what_an_attempt_lacked_is_asked_of_the_next_worker,
};
use outbox::{
    a_disabled_webhook_is_told_nothing, a_message_is_sent_by_one_at_a_time,
    a_message_that_is_over_can_be_sent_again, a_slow_webhook_does_not_keep_the_others_waiting,
    a_webhook_comes_back_as_it_was_registered,
    a_webhook_that_cannot_be_read_keeps_no_other_waiting,
    both_secrets_sign_until_the_old_one_is_over, however_many_send_no_message_is_taken_twice,
    webhooks_that_never_answer_do_not_keep_another_one_waiting,
    what_is_over_is_forgotten_and_what_is_not_is_kept, what_is_told_is_written_with_what_happened,
    what_waits_for_a_disabled_webhook_is_not_counted_and_ends,
};
use queries::{
    a_job_is_read_together_with_its_attempts, filters_and_counts_agree,
    jobs_can_be_filtered_by_name_and_metadata, jobs_can_be_filtered_by_their_type,
    pages_do_not_move_when_jobs_are_added, standings_are_those_of_the_known_jobs,
};
use requests::{
    a_deadline_ends_what_nobody_works_on, a_deleted_job_is_gone_and_known_to_be,
    a_job_is_paused_and_resumed, a_job_that_is_over_is_tried_again_with_a_fresh_budget,
    a_job_that_is_tried_again_still_waits_for_its_time,
    a_version_that_is_not_the_jobs_changes_nothing, an_artifact_that_a_job_works_on_is_not_deleted,
    events_of_all_jobs_are_numbered_as_they_become_visible,
    no_job_works_on_an_artifact_that_is_deleted_meanwhile,
    what_ends_while_a_job_shall_pause_leaves_it_paused_or_over,
    what_is_over_for_long_is_found_unless_it_is_kept_or_in_use,
};
use rows::{
    a_column_that_a_newer_version_adds_stops_nobody,
    a_damaged_job_is_left_out_of_lists_and_pages_stay_full,
    a_job_is_claimed_once_by_however_many_ask,
    a_job_of_a_newer_spec_version_can_be_ended_and_deleted,
    a_job_of_a_newer_spec_version_waits_for_a_worker_that_can_run_it,
    a_job_of_an_older_spec_version_fits_older_workers, an_unreadable_job_can_be_ended_and_deleted,
    an_unreadable_job_fails_when_its_turn_comes_and_the_next_one_is_claimed,
    an_unreadable_job_keeps_no_other_from_its_deadline,
    nobody_claims_once_a_newer_version_has_changed_the_schema,
    the_database_takes_exactly_the_transitions_of_the_state_machine,
    the_lease_of_an_unreadable_job_can_be_ended,
};
use workers::{
    a_draining_worker_finishes_what_it_has_and_claims_nothing, a_higher_priority_is_claimed_first,
    a_job_that_fits_nobody_does_not_block_the_others,
    a_pause_holds_from_the_moment_that_it_is_confirmed, a_worker_is_listed_until_it_stops,
    a_worker_that_is_not_heard_of_is_lost_and_later_forgotten,
    jobs_that_succeeded_at_once_tell_how_long_their_work_takes,
    nobody_claims_while_the_queue_is_paused, one_process_has_the_gauges_and_writes_that_seldom,
    submitters_take_turns_within_a_priority, the_place_in_the_queue_is_by_priority_and_age,
    the_queue_says_what_waits_and_for_what, the_slots_of_a_worker_share_its_memory,
};

mod bench;
mod keys;
mod leases;
mod one_file;
mod outbox;
mod properties;
mod queries;
mod requests;
mod rows;
mod server;
mod workers;

on_both_databases!(TestStore::open:
    a_job_comes_back_as_it_was_stored,
    an_evaluation_comes_back_as_it_was_stored,
    the_oldest_job_is_claimed_first_and_not_before_its_time,
    two_claimers_never_get_the_same_job,
    a_job_is_claimed_once_by_however_many_ask,
    a_heartbeat_moves_the_end_of_the_lease,
    a_lost_lease_writes_nothing,
    a_lease_renewed_meanwhile_is_not_reaped,
    a_job_is_cancelled_from_each_state_as_the_state_machine_says,
    a_cancelled_job_is_not_tried_again,
    work_that_ended_before_the_cancellation_counts,
    an_attempt_given_back_does_not_count,
    failures_and_crashes_are_counted_apart,
    what_an_attempt_lacked_is_asked_of_the_next_worker,
    of_many_attempts_the_newest_are_shown,
    the_manifest_appears_with_the_success_and_only_then,
    progress_is_kept_and_events_have_no_gaps,
    the_clock_of_the_submitter_does_not_count,
    a_clock_that_goes_back_keeps_no_job_waiting,
    pages_do_not_move_when_jobs_are_added,
    filters_and_counts_agree,
    jobs_can_be_filtered_by_their_type,
    jobs_can_be_filtered_by_name_and_metadata,
    standings_are_those_of_the_known_jobs,
    a_job_is_read_together_with_its_attempts,
    a_key_makes_one_job_and_gives_its_answer_again,
    however_many_ask_under_one_key_one_job_is_made,
    a_key_is_forgotten_after_a_day,
    a_job_that_cannot_be_stored_leaves_no_key,
    a_job_that_does_the_same_work_is_found_until_it_fails,
    however_many_ask_for_the_same_work_one_job_is_made,
    of_jobs_of_the_same_work_one_that_succeeded_is_found_first,
    a_job_is_paused_and_resumed,
    what_ends_while_a_job_shall_pause_leaves_it_paused_or_over,
    a_job_that_is_over_is_tried_again_with_a_fresh_budget,
    a_job_that_is_tried_again_still_waits_for_its_time,
    a_deleted_job_is_gone_and_known_to_be,
    an_artifact_that_a_job_works_on_is_not_deleted,
    what_is_over_for_long_is_found_unless_it_is_kept_or_in_use,
    no_job_works_on_an_artifact_that_is_deleted_meanwhile,
    a_version_that_is_not_the_jobs_changes_nothing,
    a_deadline_ends_what_nobody_works_on,
    events_of_all_jobs_are_numbered_as_they_become_visible,
    a_webhook_comes_back_as_it_was_registered,
    what_is_told_is_written_with_what_happened,
    a_message_is_sent_by_one_at_a_time,
    however_many_send_no_message_is_taken_twice,
    a_slow_webhook_does_not_keep_the_others_waiting,
    webhooks_that_never_answer_do_not_keep_another_one_waiting,
    a_webhook_that_cannot_be_read_keeps_no_other_waiting,
    a_disabled_webhook_is_told_nothing,
    what_waits_for_a_disabled_webhook_is_not_counted_and_ends,
    a_message_that_is_over_can_be_sent_again,
    both_secrets_sign_until_the_old_one_is_over,
    what_is_over_is_forgotten_and_what_is_not_is_kept,
    no_other_transition_can_be_written,
    the_database_takes_exactly_the_transitions_of_the_state_machine,
    a_column_that_a_newer_version_adds_stops_nobody,
    an_unreadable_job_fails_when_its_turn_comes_and_the_next_one_is_claimed,
    a_damaged_job_is_left_out_of_lists_and_pages_stay_full,
    a_job_of_a_newer_spec_version_can_be_ended_and_deleted,
    a_job_of_a_newer_spec_version_waits_for_a_worker_that_can_run_it,
    a_job_of_an_older_spec_version_fits_older_workers,
    the_lease_of_an_unreadable_job_can_be_ended,
    an_unreadable_job_can_be_ended_and_deleted,
    an_unreadable_job_keeps_no_other_from_its_deadline,
    nobody_claims_once_a_newer_version_has_changed_the_schema,
    a_worker_is_listed_until_it_stops,
    a_worker_that_is_not_heard_of_is_lost_and_later_forgotten,
    a_draining_worker_finishes_what_it_has_and_claims_nothing,
    nobody_claims_while_the_queue_is_paused,
    a_pause_holds_from_the_moment_that_it_is_confirmed,
    a_higher_priority_is_claimed_first,
    submitters_take_turns_within_a_priority,
    a_job_that_fits_nobody_does_not_block_the_others,
    the_slots_of_a_worker_share_its_memory,
    the_queue_says_what_waits_and_for_what,
    the_place_in_the_queue_is_by_priority_and_age,
    jobs_that_succeeded_at_once_tell_how_long_their_work_takes,
    one_process_has_the_gauges_and_writes_that_seldom,
);

async fn a_job_comes_back_as_it_was_stored(store: &TestStore) {
    let submitted = new_job("m", at(0));
    let stored = store.insert_job(&submitted).await.unwrap();
    assert_eq!(stored, submitted);
    assert_eq!(job(store, stored.id).await, stored);
    assert_eq!(
        store.lookup_job(new_job("m", at(0)).id).await.unwrap(),
        None
    );
    store.ping().await.unwrap();
}

async fn an_evaluation_comes_back_as_it_was_stored(store: &TestStore) {
    let source = insert(store, 0).await;
    cancel(store, source, 0).await;
    let stored = evaluation_of(source, at(0));
    store.insert_job(&stored).await.unwrap();
    assert_eq!(job(store, stored.id).await, stored);
    let claimed = store.at(1).claim_next_job(&claim_by("a")).await;
    let claimed = claimed.unwrap().unwrap();
    assert_eq!(claimed.spec, stored.spec);
    let lease = Lease::of(&claimed).unwrap();
    let ending = AttemptEnd::Succeeded(Box::new(evaluation(1)));
    assert!(finish(store, &lease, &ending).await);
    let found = store.lookup_publication(stored.id).await.unwrap();
    assert_eq!(found, Some(evaluation(1)));
    let outcome = job(store, stored.id).await.outcome;
    assert_eq!(outcome, Some(evaluation(1).outcome()));
    let events = store.list_events(stored.id, 0, 100).await.unwrap();
    let end = EventKind::Succeeded { digest: None };
    assert_eq!(events.last().map(|event| &event.kind), Some(&end));
}

async fn the_oldest_job_is_claimed_first_and_not_before_its_time(store: &TestStore) {
    let delayed = Job {
        run_after: at(9),
        ..new_job("m", at(0))
    };
    store.at(0).insert_job(&delayed).await.unwrap();
    let (later, sooner) = (insert(store, 2).await, insert(store, 1).await);
    assert_eq!(claim(store, "a", 5).await.unwrap().job_id, sooner);
    assert_eq!(claim(store, "a", 5).await.unwrap().job_id, later);
    assert_eq!(claim(store, "a", 5).await, None);
    assert_eq!(claim(store, "a", 9).await.unwrap().job_id, delayed.id);
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

async fn two_claimers_never_get_the_same_job(store: &TestStore) {
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

async fn a_job_is_cancelled_from_each_state_as_the_state_machine_says(store: &TestStore) {
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
        store.heartbeat(&lease, LEASE).await.unwrap(),
    ] {
        assert_eq!(held, LeaseCheck::CancelRequested);
    }
    assert!(finish(store, &lease, &AttemptEnd::Cancelled).await);
    assert_eq!(job(store, running).await.state, JobState::Cancelled);

    for ending in [
        succeeded(1),
        AttemptEnd::Failed {
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
            .request(new_job("m", at(0)).id, Action::Cancel, None)
            .await
            .unwrap(),
        None
    );
}

async fn a_cancelled_job_is_not_tried_again(store: &TestStore) {
    let last_crash = AttemptEnd::Failed {
        error: error(1),
        crashed: true,
    };
    for ending in [retry(1, true, 5), AttemptEnd::Released, last_crash] {
        let id = insert(store, 0).await;
        let lease = claim(store, "a", 1).await.unwrap();
        assert_eq!(store.check_lease(&lease).await.unwrap(), LeaseCheck::Valid);
        cancel(store, id, 2).await;
        let settled = store.finish(&lease, &ending, None).await.unwrap();
        let settled = settled.map(|settled| (settled.state, settled.outcome, settled.error));
        let expected = (JobState::Cancelled, AttemptOutcome::Cancelled, None);
        assert_eq!(settled, Some(expected));
        let job = job(store, id).await;
        assert_eq!((job.state, job.error), (JobState::Cancelled, None));
    }
}

async fn work_that_ended_before_the_cancellation_counts(store: &TestStore) {
    let id = insert(store, 0).await;
    let lease = claim(store, "a", 1).await.unwrap();
    cancel(store, id, 2).await;
    assert!(finish(store, &lease, &succeeded(1)).await);
    assert_eq!(job(store, id).await.state, JobState::Succeeded);
}

async fn the_manifest_appears_with_the_success_and_only_then(store: &TestStore) {
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

async fn progress_is_kept_and_events_have_no_gaps(store: &TestStore) {
    let id = insert(store, 0).await;
    let lease = claim(store, "a", 1).await.unwrap();
    let step = Step::new("blocks".to_owned(), "blocks", 1, 2);
    let overall = |percent| Overall {
        percent,
        eta_seconds: Some(3),
    };
    let reports = [
        Report::Phase(Phase::Pruning, overall(1.0)),
        Report::Resumed {
            block: 1,
            blocks: 2,
        },
        Report::Step(step.clone(), overall(50.0)),
    ];
    for report in &reports {
        assert_eq!(
            store.at(2).report(&lease, report).await.unwrap(),
            LeaseCheck::Valid
        );
    }
    let running = job(store, id).await;
    assert_eq!(running.phase, Some(Phase::Pruning));
    let progress = Progress {
        overall: overall(50.0),
        step: Some(step),
        updated_at: at(2),
    };
    assert_eq!(running.progress, Some(progress));
    finish(store, &lease, &succeeded(1)).await;
    let events = store.list_events(id, 0, 100).await.unwrap();
    assert_eq!(
        events.iter().map(|event| event.seq).collect::<Vec<_>>(),
        [1, 2, 3, 4, 5]
    );
    assert_eq!(store.list_events(id, 3, 1).await.unwrap(), events[3..4]);
}

/// A worker that says a queued or terminal job's attempt is over is not believed.
async fn no_other_transition_can_be_written(store: &TestStore) {
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
            .finish(&lease, &AttemptEnd::Cancelled, None)
            .await
            .is_err()
    );
    assert_eq!(job(store, id).await.state, JobState::Running);
}

/// Nor that of a worker: a job from the future is claimed at once, and its times are in order.
async fn the_clock_of_the_submitter_does_not_count(store: &TestStore) {
    let ahead = new_job("m", at(3600));
    let stored = store.at(1).insert_job(&ahead).await.unwrap();
    assert_eq!((stored.created_at, stored.run_after), (at(1), at(1)));
    assert!(claim(store, "a", 2).await.is_some());
    let delayed = Job {
        run_after: at(60),
        ..new_job("m", at(0))
    };
    let stored = store.at(3).insert_job(&delayed).await.unwrap();
    assert_eq!((stored.created_at, stored.run_after), (at(3), at(60)));
    assert_eq!(claim(store, "a", 59).await, None);
    assert!(claim(store, "a", 60).await.is_some());
}

/// An hour that it was set back is not waited for.
async fn a_clock_that_goes_back_keeps_no_job_waiting(store: &TestStore) {
    let id = insert(store, 3600).await;
    let lease = claim(store, "a", 0).await.unwrap();
    assert_eq!(lease.job_id, id);
    let leased = store.list_leases().await.unwrap();
    assert_eq!(leased[0].expires_at, at(300));
    assert!(finish_at(store, &lease, &AttemptEnd::Released, 1).await);
    let again = claim(store, "a", 2).await.unwrap();
    finish_at(store, &again, &AttemptEnd::Released, 3).await;
    ask(store, id, Action::Pause, 4).await;
    ask(store, id, Action::Resume, -9).await;
    assert!(claim(store, "a", -9).await.is_some());
}
