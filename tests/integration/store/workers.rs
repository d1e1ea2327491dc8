//! Who works, and who gets what.

use std::collections::BTreeMap;

use secateur::domain::job::scheduling::{DeviceKind, Scheduling};
use secateur::domain::queue::WaitReason;
use secateur::domain::queue::places::PastRun;
use secateur::domain::worker::{Device, Worker, WorkerProfile, WorkerStatus};

use super::*;

const GIB: u64 = 1 << 30;

fn profile(id: &str) -> WorkerProfile {
    let devices = ["cpu", "cuda:0"].map(str::to_owned);
    WorkerProfile::new(id.to_owned(), "host".to_owned(), &devices, Some(16 * GIB)).unwrap()
}

async fn announce(store: &TestStore, id: &str, seconds: i64) -> bool {
    let announced = store.at(seconds).announce_worker(&profile(id), LEASE).await;
    announced.unwrap()
}

async fn workers(store: &TestStore, seconds: i64) -> Vec<Worker> {
    store.at(seconds).cluster_state().await.unwrap().workers
}

async fn statuses(store: &TestStore, seconds: i64) -> Vec<(String, WorkerStatus)> {
    let workers = workers(store, seconds).await.into_iter();
    workers
        .map(|worker| (worker.profile.id.clone(), worker.status()))
        .collect()
}

/// A queued job that is as the test wants it.
async fn insert_with(store: &TestStore, seconds: i64, scheduling: Scheduling) -> JobId {
    let job = Job {
        scheduling,
        ..new_job("m", at(seconds))
    };
    store.at(seconds).insert_job(&job).await.unwrap();
    job.id
}

fn of(submitter: &str, priority: i32) -> Scheduling {
    Scheduling {
        submitter: submitter.to_owned(),
        priority,
        ..Scheduling::default()
    }
}

fn needing(device_kind: Option<DeviceKind>, gib: u64) -> Scheduling {
    Scheduling {
        device_kind,
        memory_bytes: Some(gib * GIB),
        ..Scheduling::default()
    }
}

/// Everything that the worker gets, one after the other, and keeps.
async fn claim_all(store: &TestStore, worker: &str) -> Vec<JobId> {
    let mut claimed = Vec::new();
    while let Some(lease) = claim(store, worker, 100).await {
        claimed.push(lease.job_id);
    }
    claimed
}

async fn claim_on(store: &TestStore, worker: &str, device: Device) -> Option<JobId> {
    let claim = Claim {
        device,
        ..claim_by(worker)
    };
    let claimed = store.at(100).claim_next_job(&claim).await.unwrap();
    claimed.map(|job| job.id)
}

fn device(name: &str, kind: DeviceKind, gib: u64) -> Device {
    Device {
        name: name.to_owned(),
        kind,
        memory_bytes: Some(gib * GIB),
    }
}

pub(super) async fn a_worker_is_listed_until_it_stops(store: &TestStore) {
    assert!(!announce(store, "a", 0).await);
    assert!(!announce(store, "b", 1).await);
    assert!(!announce(store, "a", 10).await);
    let id = insert(store, 11).await;
    claim(store, "a", 12).await.unwrap();
    let listed = workers(store, 20).await;
    let expected = Worker {
        profile: profile("a"),
        draining: false,
        is_lost: false,
        started_at: at(0),
        seen_at: at(10),
        jobs: vec![id],
    };
    assert_eq!(listed[0], expected);
    assert_eq!(
        listed.iter().map(Worker::status).collect::<Vec<_>>(),
        [WorkerStatus::Busy, WorkerStatus::Idle]
    );
    store.dismiss_worker("a").await.unwrap();
    store.dismiss_worker("a").await.unwrap();
    let left = statuses(store, 20).await;
    assert_eq!(left, [("b".to_owned(), WorkerStatus::Idle)]);
}

pub(super) async fn a_worker_that_is_not_heard_of_is_lost_and_later_forgotten(store: &TestStore) {
    for id in ["a", "b", "killed"] {
        announce(store, id, 0).await;
    }
    announce(store, "b", 299).await;
    store.at(10).lose_worker("killed").await.unwrap();
    let lost = async |seconds| {
        let statuses = statuses(store, seconds).await.into_iter();
        let lost = statuses.filter(|(_, status)| *status == WorkerStatus::Lost);
        lost.map(|(id, _)| id).collect::<Vec<_>>()
    };
    assert_eq!(lost(299).await, ["killed"]);
    assert_eq!(lost(300).await, ["a", "killed"]);
    assert_eq!(lost(599).await, ["a", "b", "killed"]);
    // Lost at 10, 300 and 599 seconds.
    let hour = Duration::from_hours(1);
    store.at(3611).forget_workers(hour).await.unwrap();
    assert_eq!(lost(3611).await, ["a", "b"]);
    assert!(!announce(store, "a", 3700).await, "it was only silent");
    assert_eq!(lost(3700).await, ["b"]);
}

pub(super) async fn a_draining_worker_finishes_what_it_has_and_claims_nothing(store: &TestStore) {
    announce(store, "a", 0).await;
    let (first, second) = (insert(store, 1).await, insert(store, 2).await);
    let lease = claim(store, "a", 3).await.unwrap();
    assert_eq!(lease.job_id, first);
    for _ in 0..2 {
        assert!(store.set_draining("a", true).await.unwrap());
    }
    assert!(announce(store, "a", 4).await, "it hears of it");
    assert_eq!(claim(store, "a", 5).await, None);
    assert_eq!(
        store.heartbeat(&lease, LEASE).await.unwrap(),
        LeaseCheck::Valid
    );
    assert!(finish(store, &lease, &succeeded(1)).await);
    assert_eq!(
        statuses(store, 6).await,
        [("a".to_owned(), WorkerStatus::Draining)]
    );
    // Only this one.
    let elsewhere = claim(store, "b", 6).await.unwrap();
    assert_eq!(elsewhere.job_id, second);
    assert!(finish_at(store, &elsewhere, &AttemptEnd::Released, 7).await);
    assert!(store.set_draining("a", false).await.unwrap());
    assert_eq!(claim(store, "a", 8).await.unwrap().job_id, second);
    assert!(!store.set_draining("nobody", true).await.unwrap());
}

pub(super) async fn nobody_claims_while_the_queue_is_paused(store: &TestStore) {
    let (first, second) = (insert(store, 0).await, insert(store, 1).await);
    let lease = claim(store, "a", 2).await.unwrap();
    let paused = async || {
        let now = store.cluster_state().await.unwrap();
        (now.paused, now.changed_at)
    };
    assert_eq!(paused().await, (false, None));
    for seconds in [3, 4] {
        store.at(seconds).set_paused(true).await.unwrap();
    }
    assert_eq!(paused().await, (true, Some(at(3))));
    assert_eq!(claim(store, "b", 5).await, None);
    assert_eq!(
        store.heartbeat(&lease, LEASE).await.unwrap(),
        LeaseCheck::Valid
    );
    assert!(finish(store, &lease, &succeeded(1)).await, "{first}");
    store.at(6).set_paused(false).await.unwrap();
    assert_eq!(claim(store, "b", 7).await.unwrap().job_id, second);
}

/// Whatever is being claimed at that moment.
pub(super) async fn a_pause_holds_from_the_moment_that_it_is_confirmed(store: &TestStore) {
    for seconds in 0..60 {
        insert(store, seconds).await;
    }
    store.at(100);
    let running = async || {
        let counts = store.count_jobs().await.unwrap();
        counts.get(&JobState::Running).copied().unwrap_or_default()
    };
    let take = async |worker: String| {
        for _ in 0..10 {
            store.claim_next_job(&claim_by(&worker)).await.unwrap();
        }
    };
    let takers = futures::future::join_all((0..6).map(|worker| take(format!("w{worker}"))));
    let pause = async {
        while running().await < 5 {}
        store.set_paused(true).await.unwrap();
        running().await
    };
    let (_, at_the_pause) = tokio::join!(takers, pause);
    assert_eq!(running().await, at_the_pause);
}

pub(super) async fn a_higher_priority_is_claimed_first(store: &TestStore) {
    let low = insert_with(store, 0, of("", -1)).await;
    let usual = insert_with(store, 1, of("", 0)).await;
    let high = insert_with(store, 2, of("", 100)).await;
    let also_high = insert_with(store, 3, of("", 100)).await;
    assert_eq!(claim_all(store, "a").await, [high, also_high, usual, low]);
}

/// Nobody waits behind a whole batch of somebody else.
pub(super) async fn submitters_take_turns_within_a_priority(store: &TestStore) {
    let mut batch = Vec::new();
    for seconds in 0..3 {
        batch.push(insert_with(store, seconds, of("batch", 0)).await);
    }
    let single = insert_with(store, 3, of("single", 0)).await;
    let nameless = insert_with(store, 4, of("", 0)).await;
    let urgent = insert_with(store, 5, of("batch", 1)).await;
    let expected = [urgent, single, nameless, batch[0], batch[1], batch[2]];
    assert_eq!(claim_all(store, "a").await, expected);
}

pub(super) async fn a_job_that_fits_nobody_does_not_block_the_others(store: &TestStore) {
    let big = insert_with(store, 0, needing(None, 24)).await;
    let on_cuda = insert_with(store, 1, needing(Some(DeviceKind::Cuda), 1)).await;
    let small = insert_with(store, 2, needing(Some(DeviceKind::Cpu), 8)).await;
    let plain = insert(store, 3).await;
    let cpu = || device("cpu", DeviceKind::Cpu, 16);
    assert_eq!(claim_on(store, "a", cpu()).await, Some(small));
    assert_eq!(claim_on(store, "a", cpu()).await, Some(plain));
    assert_eq!(claim_on(store, "a", cpu()).await, None);
    let cuda = || device("cuda:0", DeviceKind::Cuda, 16);
    assert_eq!(claim_on(store, "b", cuda()).await, Some(on_cuda));
    assert_eq!(claim_on(store, "c", cuda()).await, None);
    let roomy = device("cpu", DeviceKind::Cpu, 24);
    assert_eq!(claim_on(store, "c", roomy).await, Some(big));
}

/// Two slots of one worker do not take what fits only one at a time.
pub(super) async fn the_slots_of_a_worker_share_its_memory(store: &TestStore) {
    let first = insert_with(store, 0, needing(None, 10)).await;
    let second = insert_with(store, 1, needing(None, 10)).await;
    let cpu = || device("cpu", DeviceKind::Cpu, 16);
    assert_eq!(claim_on(store, "a", cpu()).await, Some(first));
    assert_eq!(claim_on(store, "a", cpu()).await, None);
    assert_eq!(claim_on(store, "b", cpu()).await, Some(second));
}

pub(super) async fn the_queue_says_what_waits_and_for_what(store: &TestStore) {
    announce(store, "a", 0).await;
    insert_with(store, 10, of("x", 0)).await;
    insert_with(store, 20, of("x", 0)).await;
    insert_with(store, 30, needing(Some(DeviceKind::Cpu), 24)).await;
    let scheduled = Job {
        run_after: at(1000),
        ..new_job("m", at(40))
    };
    store.at(40).insert_job(&scheduled).await.unwrap();
    let held = claim(store, "a", 50).await.unwrap();
    let retried = claim(store, "a", 51).await.unwrap();
    assert!(finish_at(store, &retried, &retry(1, false, 60), 60).await);
    let (now, content) = store.at(70).queue_overview(1).await.unwrap();
    assert_eq!(content.ready_and_delayed(), (1, 2));
    assert_eq!(content.running, 1);
    assert_eq!(content.oldest_age_seconds(now.now), Some(50.0));
    let loads: Vec<_> = content
        .submitters
        .iter()
        .map(|load| (load.submitter.as_str(), load.queued, load.running))
        .collect();
    assert_eq!(loads, [("", 2, 0)], "no more than were asked for");
    assert_eq!(
        reasons(store, 70).await,
        [
            WaitReason::WaitingForWorker,
            WaitReason::RetryBackoff,
            WaitReason::Scheduled
        ]
    );
    assert!(finish_at(store, &held, &succeeded(1), 71).await);
    // A job whose time has come has waited since then.
    assert_eq!(
        reasons(store, 125).await,
        [
            WaitReason::WaitingForWorker,
            WaitReason::NoWorkerFits,
            WaitReason::Scheduled
        ]
    );
    let (_, content) = store.at(125).queue_overview(10).await.unwrap();
    let retried = content.groups.iter().find(|group| group.needs.is_retry);
    assert_eq!(retried.map(|group| group.since), Some(at(120)));
}

/// Those of the jobs that wait, each once.
async fn reasons(store: &TestStore, seconds: i64) -> Vec<WaitReason> {
    let (now, content) = store.at(seconds).queue_overview(10).await.unwrap();
    let waiting = now.waiting(&content.groups).into_iter();
    let mut reasons: Vec<_> = waiting.map(|(waiting, _)| waiting.reason).collect();
    reasons.sort_unstable();
    reasons
}

pub(super) async fn the_place_in_the_queue_is_by_priority_and_age(store: &TestStore) {
    let first = insert_with(store, 0, of("", 1)).await;
    let second = insert(store, 1).await;
    let third = insert(store, 2).await;
    let last = insert_with(store, 0, of("", -1)).await;
    let ids = [first, second, third, last];
    let places = store.places(&ids).await.unwrap();
    let expected = (1..).zip(ids).map(|(position, id)| (id, position));
    assert_eq!(places.positions, expected.collect());
    assert_eq!(places.mean_run, None);
    let lease = claim(store, "a", 2).await.unwrap();
    assert!(finish_at(store, &lease, &succeeded(1), 12).await);
    let places = store.places(&ids[1..3]).await.unwrap();
    assert_eq!(places.positions, BTreeMap::from([(second, 1), (third, 2)]));
    assert_eq!(places.mean_run, Some(Duration::from_secs(10)));
    assert_eq!(places.recent, [], "how much it computed is not known");
}

pub(super) async fn jobs_that_succeeded_at_once_tell_how_long_their_work_takes(store: &TestStore) {
    let working = |work| Scheduling {
        work: Some(work),
        ..Scheduling::default()
    };
    let known = insert_with(store, 0, working(1000)).await;
    assert_eq!(job(store, known).await.scheduling.work, Some(1000));
    let lease = claim(store, "a", 2).await.unwrap();
    assert!(finish_at(store, &lease, &succeeded(1), 12).await);
    insert_with(store, 20, working(2000)).await;
    let lease = claim(store, "a", 20).await.unwrap();
    assert!(finish(store, &lease, &AttemptEnd::Released).await);
    let lease = claim(store, "a", 30).await.unwrap();
    assert!(finish_at(store, &lease, &succeeded(2), 40).await);
    let run = PastRun {
        work: 1000,
        device: None,
        took: Duration::from_secs(10),
    };
    assert_eq!(store.recent_runs().await.unwrap(), [run]);
    assert_eq!(store.places(&[]).await.unwrap().recent, [run]);
}

pub(super) async fn one_process_has_the_gauges_and_writes_that_seldom(store: &TestStore) {
    let take = async |holder: &str, seconds| {
        let lease = Duration::from_secs(90);
        store.at(seconds).take_gauges(holder, lease).await.unwrap()
    };
    let database = &store.database;
    assert!(take("a", 0).await);
    let refused = database.refuse("update", "metrics_exporter").await;
    refused.unwrap();
    // Whoever asks soon, or in vain, writes nothing; and while nobody can write the place stays where it is.
    for seconds in [1, 44, 46, 89, 200] {
        assert!(take("a", seconds).await, "{seconds}");
    }
    assert!(!take("b", 89).await);
    database.accept_again("metrics_exporter").await.unwrap();
    assert!(take("a", 44).await);
    assert!(take("b", 90).await, "it was not extended at 44");
    assert!(!take("a", 134).await);
    assert!(take("b", 136).await, "it is extended");
    assert!(!take("a", 180).await);
}
