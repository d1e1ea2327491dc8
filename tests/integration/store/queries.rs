//! Lists, filters and counts.

use super::*;

pub(super) async fn pages_do_not_move_when_jobs_are_added(store: &TestStore) {
    let mut ids = Vec::new();
    for seconds in 0..5 {
        ids.push(insert(store, seconds).await);
    }
    let page = async |before| {
        let jobs = store
            .list_jobs(&JobFilter::default(), before, 2)
            .await
            .unwrap();
        jobs.into_iter().map(|job| job.id).collect::<Vec<_>>()
    };
    let first = page(None).await;
    assert_eq!(first, [ids[4], ids[3]]);
    insert(store, 60).await;
    assert_eq!(page(Some(first[1])).await, [ids[2], ids[1]]);
    assert_eq!(page(Some(ids[1])).await, [ids[0]]);
}

pub(super) async fn filters_and_counts_agree(store: &TestStore) {
    for (seconds, model) in [(0, "a"), (1, "b"), (2, "a")] {
        let job = new_job(model, at(seconds));
        store.at(seconds).insert_job(&job).await.unwrap();
    }
    claim(store, "w", 10).await.unwrap();
    let count = async |filter: JobFilter| store.list_jobs(&filter, None, 100).await.unwrap().len();
    assert_eq!(
        count(JobFilter {
            states: vec![JobState::Queued],
            ..JobFilter::default()
        })
        .await,
        2
    );
    let both = vec![JobState::Queued, JobState::Running];
    assert_eq!(
        count(JobFilter {
            states: both,
            ..JobFilter::default()
        })
        .await,
        3
    );
    let twice = JobFilter {
        states: vec![JobState::Queued; 2],
        types: vec![JobType::Prune; 2],
        ..JobFilter::default()
    };
    let page = store.list_jobs(&twice, None, 2).await.unwrap();
    assert_eq!(page.len(), 2, "each state takes its room once");
    assert_eq!(
        count(JobFilter {
            model: Some("a".to_owned()),
            ..JobFilter::default()
        })
        .await,
        2
    );
    assert_eq!(
        count(JobFilter {
            method: Some("magnitude".to_owned()),
            ..JobFilter::default()
        })
        .await,
        0
    );
    let unheard_of = JobFilter {
        model: Some("a\0".to_owned()),
        ..JobFilter::default()
    };
    assert_eq!(count(unheard_of).await, 0);
    let middle = JobFilter {
        created_after: Some(at(1)),
        created_before: Some(at(2)),
        ..JobFilter::default()
    };
    assert_eq!(count(middle).await, 1);
    let counts = store.count_jobs().await.unwrap();
    assert_eq!(
        counts.into_iter().collect::<Vec<_>>(),
        [(JobState::Queued, 2), (JobState::Running, 1)]
    );
}

pub(super) async fn jobs_can_be_filtered_by_name_and_metadata(store: &TestStore) {
    let mut ids = Vec::new();
    // Three pages of the same pair, and names that sort by their bytes.
    for (seconds, name) in (0..).zip(["Alpha", "alpha", "alpha-2", "alphb", "älpha"]) {
        let pairs = [("team", "a"), ("name", name)];
        let pairs = pairs.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let job = Job {
            name: Some(name.to_owned()),
            metadata: pairs.into(),
            ..new_job("m", at(seconds))
        };
        store.at(seconds).insert_job(&job).await.unwrap();
        ids.push(job.id);
    }
    insert(store, 9).await;
    let found = async |filter: JobFilter, before| {
        let jobs = store.list_jobs(&filter, before, 2).await.unwrap();
        jobs.into_iter().map(|job| job.id).collect::<Vec<_>>()
    };
    let named = |name: Option<&str>, prefix: Option<&str>| JobFilter {
        name: name.map(str::to_owned),
        name_prefix: prefix.map(str::to_owned),
        ..JobFilter::default()
    };
    assert_eq!(found(named(Some("alpha"), None), None).await, [ids[1]]);
    assert_eq!(found(named(Some("al%"), None), None).await, []);
    let prefix = || named(None, Some("alpha"));
    assert_eq!(found(prefix(), None).await, [ids[2], ids[1]]);
    assert_eq!(found(prefix(), Some(ids[2])).await, [ids[1]]);
    assert_eq!(found(named(None, Some("ä")), None).await, [ids[4]]);
    let with = |pairs: &[(&str, &str)]| JobFilter {
        metadata: pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
        ..JobFilter::default()
    };
    let team = || with(&[("team", "a")]);
    assert_eq!(found(team(), None).await, [ids[4], ids[3]]);
    assert_eq!(found(team(), Some(ids[3])).await, [ids[2], ids[1]]);
    let both = with(&[("team", "a"), ("name", "alphb")]);
    assert_eq!(found(both, None).await, [ids[3]]);
    assert_eq!(found(with(&[("team", "b")]), None).await, []);
    assert_eq!(found(with(&[("team", "a\0")]), None).await, []);
    cancel(store, ids[4], 20).await;
    let deleted = store.request(ids[4], Action::Delete, None).await.unwrap();
    assert!(matches!(deleted, Some(Requested::Done(..))), "{deleted:?}");
    assert_eq!(found(team(), None).await, [ids[3], ids[2]]);
}

pub(super) async fn jobs_can_be_filtered_by_their_type(store: &TestStore) {
    let pruned = insert(store, 0).await;
    let evaluated = evaluation_of(pruned, at(1));
    store.at(1).insert_job(&evaluated).await.unwrap();
    let found = async |types: &[JobType], method: Option<&str>| {
        let filter = JobFilter {
            types: types.to_vec(),
            method: method.map(str::to_owned),
            ..JobFilter::default()
        };
        let jobs = store.list_jobs(&filter, None, 10).await.unwrap();
        jobs.into_iter().map(|job| job.id).collect::<Vec<_>>()
    };
    assert_eq!(found(&[JobType::Evaluate], None).await, [evaluated.id]);
    assert_eq!(found(&[JobType::Prune], None).await, [pruned]);
    assert_eq!(found(&JobType::ALL, None).await, [evaluated.id, pruned]);
    assert_eq!(found(&[], None).await, [evaluated.id, pruned]);
    assert_eq!(found(&[], Some("wanda")).await, [pruned]);
    assert_eq!(found(&[JobType::Evaluate], Some("wanda")).await, []);
}

pub(super) async fn standings_are_those_of_the_known_jobs(store: &TestStore) {
    let (first, second) = (insert(store, 0).await, insert(store, 1).await);
    claim(store, "w", 10).await.unwrap();
    let ids = [second, new_job("m", at(0)).id, first];
    let statuses = store.list_statuses(&ids).await.unwrap();
    let found: Vec<_> = statuses
        .into_iter()
        .map(|(id, standing)| (id, standing.state, standing.attempt))
        .collect();
    assert_eq!(
        found,
        [(first, JobState::Running, 1), (second, JobState::Queued, 0)]
    );
    assert!(store.list_statuses(&[]).await.unwrap().is_empty());
}

/// While somebody claims and gives back without a pause, no answer tells of two moments.
pub(super) async fn a_job_is_read_together_with_its_attempts(store: &TestStore) {
    let id = insert(store, 0).await;
    let write = async {
        for round in 1..=50 {
            let lease = claim(store, "a", round).await.unwrap();
            assert!(finish(store, &lease, &AttemptEnd::Released).await);
        }
    };
    let read = async {
        loop {
            let (job, attempts) = store.lookup_job_with_attempts(id).await.unwrap().unwrap();
            assert_eq!(attempts.len(), job.attempt as usize);
            let is_held = attempts.last().is_some_and(|last| last.outcome.is_none());
            assert_eq!(is_held, job.state == JobState::Running);
            if job.version == 101 {
                break;
            }
        }
    };
    tokio::join!(write, read);
    let cancelled = store.request(id, Action::Cancel, None).await.unwrap();
    let Some(Requested::Done(cancelled, attempts)) = cancelled else {
        panic!("{cancelled:?}");
    };
    assert_eq!((cancelled.state, attempts.len()), (JobState::Cancelled, 50));
}
