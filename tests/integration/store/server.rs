//! What only a database on a server does: it tells who waits, and its connections are lost.

use futures::StreamExt as _;
use futures::stream::BoxStream;
use secateur::store::{self, Change};

use super::*;

async fn opened() -> Option<TestStore> {
    Some(TestStore::open(Database::postgres().await?).await)
}

/// Ends the connections of the store that do what `query` says.
async fn cut(store: &TestStore, query: &str) -> u64 {
    let statement = format!(
        "select pg_terminate_backend(pid) from pg_stat_activity \
         where datname = current_database() and pid <> pg_backend_pid() and query ilike '{query}'"
    );
    store.database.execute(&statement).await.unwrap()
}

/// Of every entry of the log something is told too.
fn without_the_log(store: &TestStore) -> BoxStream<'static, Change> {
    let changes = store.changes();
    let others = changes.filter(|change| std::future::ready(*change != Change::Logged));
    others.boxed()
}

#[tokio::test]
async fn whoever_listens_hears_that_the_log_has_grown() {
    let Some(store) = opened().await else { return };
    let mut changes = store.changes();
    assert_eq!(changes.next().await, Some(Change::Missed), "connected");
    let id = insert(&store, 0).await;
    let mut heard = [changes.next().await, changes.next().await];
    heard.sort_by_key(|change| *change == Some(Change::Logged));
    assert_eq!(heard, [Some(Change::Queued), Some(Change::Logged)]);
    ask(&store, id, Action::Pause, 1).await;
    assert_eq!(changes.next().await, Some(Change::Logged));
}

#[tokio::test]
async fn whoever_listens_hears_of_queued_jobs_and_of_cancellations() {
    let Some(store) = opened().await else { return };
    let mut changes = without_the_log(&store);
    assert_eq!(changes.next().await, Some(Change::Missed), "connected");
    let id = insert(&store, 0).await;
    assert_eq!(changes.next().await, Some(Change::Queued));
    let lease = claim(&store, "a", 1).await.unwrap();
    cancel(&store, id, 2).await;
    assert_eq!(changes.next().await, Some(Change::Asked(id)));
    finish(&store, &lease, &AttemptEnd::Cancelled).await;
    let again = insert(&store, 3).await;
    assert_eq!(changes.next().await, Some(Change::Queued));
    let lease = claim(&store, "a", 4).await.unwrap();
    assert_eq!(lease.job_id, again);
    finish(&store, &lease, &AttemptEnd::Released).await;
    assert_eq!(changes.next().await, Some(Change::Queued));
}

#[tokio::test]
async fn a_lost_listener_comes_back_and_says_that_something_may_have_been_missed() {
    let Some(store) = opened().await else { return };
    let mut changes = without_the_log(&store);
    assert_eq!(changes.next().await, Some(Change::Missed));
    assert_eq!(cut(&store, "listen %").await, 1);
    assert_eq!(changes.next().await, Some(Change::Missed), "connected anew");
    insert(&store, 0).await;
    assert_eq!(changes.next().await, Some(Change::Queued));
}

#[tokio::test]
async fn lost_connections_are_replaced() {
    let Some(store) = opened().await else { return };
    let id = insert(&store, 0).await;
    for _ in 0..3 {
        assert!(cut(&store, "%").await > 0);
        assert_eq!(job(&store, id).await.id, id);
    }
}

#[tokio::test]
async fn times_are_those_of_the_server() {
    let Some(database) = Database::postgres().await else {
        return;
    };
    let store = store::open(&database.as_url(), Time::Database)
        .await
        .unwrap();
    let long_ago = new_job("m", at(0));
    let stored = store.insert_job(&long_ago).await.unwrap();
    let id = stored.id;
    let age = format!(
        "select 1 from jobs where id = '{id}' \
         and created_at between extract(epoch from now()) * 1000 - 60000 and extract(epoch from now()) * 1000"
    );
    assert_eq!(database.execute(&age).await.unwrap(), 1);
    let claimed = store.claim_next_job(&claim_by("a")).await.unwrap().unwrap();
    let lease = Lease::of(&claimed).unwrap();
    assert!(!store.list_leases().await.unwrap()[0].is_over);
    store.heartbeat(&lease, Duration::ZERO).await.unwrap();
    assert!(store.list_leases().await.unwrap()[0].is_over);
}
