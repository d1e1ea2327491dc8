//! Lists, filters and counts.

use super::*;

pub(super) async fn pages_do_not_move_when_jobs_are_added(store: &dyn Store) {
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

pub(super) async fn filters_and_counts_agree(store: &dyn Store) {
    for (seconds, model) in [(0, "a"), (1, "b"), (2, "a")] {
        store
            .insert_job(&new_job(model, at(seconds)))
            .await
            .unwrap();
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
