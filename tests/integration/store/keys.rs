//! Submissions under a key.

use secateur::domain::idempotency::{KeyedRequest, LIFETIME, Reply};
use secateur::store::{Earlier, Inserted};
use serde_json::{Value, json};

use super::*;

fn request(key: &str, body: &Value) -> KeyedRequest {
    KeyedRequest::new("POST /jobs", key.parse().unwrap(), body)
}

fn answer(job: &Job) -> Reply {
    Reply {
        job_id: job.id,
        version: job.version,
        created_at: job.created_at,
        body: format!("{{\"at\": \"{}\", \"ä\": 1.50}}", job.created_at),
    }
}

async fn insert_once(store: &TestStore, key: &str, body: &Value) -> Inserted {
    let (job, request) = (new_job("m", at(0)), request(key, body));
    let inserted = store.insert_job_once(&job, &request, &answer).await;
    inserted.unwrap()
}

async fn number_of_jobs(store: &TestStore) -> usize {
    let all = store.list_jobs(&JobFilter::default(), None, 100).await;
    all.unwrap().len()
}

pub(super) async fn a_key_makes_one_job_and_gives_its_answer_again(store: &TestStore) {
    let (body, other) = (json!({"a": 1, "b": 2}), json!({"a": 1, "b": 3}));
    let lookup = async |request| store.lookup_earlier(&request).await.unwrap();
    assert_eq!(lookup(request("k", &body)).await, None);
    store.at(7);
    let Inserted::New(reply) = insert_once(store, "k", &body).await else {
        panic!("the key is new");
    };
    let id = reply.job_id;
    assert_eq!(reply, answer(&job(store, id).await));
    assert_eq!(job(store, id).await.created_at, at(7));

    store.at(8);
    let same = Earlier::Same(reply);
    let again = insert_once(store, "k", &body).await;
    assert_eq!(again, Inserted::Earlier(same.clone()));
    assert_eq!(lookup(request("k", &body)).await, Some(same));
    let reused = insert_once(store, "k", &other).await;
    assert_eq!(reused, Inserted::Earlier(Earlier::Other));
    assert_eq!(lookup(request("k", &other)).await, Some(Earlier::Other));
    assert_eq!(number_of_jobs(store).await, 1);

    let elsewhere = KeyedRequest {
        scope: "POST /elsewhere",
        ..request("k", &body)
    };
    assert_eq!(lookup(elsewhere).await, None);
    assert!(matches!(
        insert_once(store, "K", &body).await,
        Inserted::New(_)
    ));
    assert_eq!(number_of_jobs(store).await, 2);
}

pub(super) async fn however_many_ask_under_one_key_one_job_is_made(store: &TestStore) {
    let body = json!({});
    let asked = (0..30).map(|_| insert_once(store, "k", &body));
    let inserted = futures::future::join_all(asked).await;
    let mut replies = Vec::new();
    let mut new = 0;
    for inserted in inserted {
        match inserted {
            Inserted::New(reply) => {
                new += 1;
                replies.push(reply);
            }
            Inserted::Earlier(Earlier::Same(reply)) => replies.push(reply),
            other => panic!("the bodies are the same: {other:?}"),
        }
    }
    assert_eq!((new, replies.len()), (1, 30));
    assert!(replies.iter().all(|reply| *reply == replies[0]));
    assert_eq!(number_of_jobs(store).await, 1);
}

pub(super) async fn a_key_is_forgotten_after_a_day(store: &TestStore) {
    let (body, other) = (json!(1), json!(2));
    let day = i64::try_from(LIFETIME.as_secs()).unwrap();
    insert_once(store.at(0), "k", &body).await;
    insert_once(store.at(1), "later", &body).await;
    let still = insert_once(store.at(day - 1), "k", &other).await;
    assert_eq!(still, Inserted::Earlier(Earlier::Other));
    assert_eq!(store.forget_expired_keys().await.unwrap(), 0);

    // Over, whether or not it was swept away.
    let found = store.at(day).lookup_earlier(&request("k", &body)).await;
    assert_eq!(found.unwrap(), None);
    let again = insert_once(store, "k", &other).await;
    assert!(matches!(again, Inserted::New(_)));
    assert_eq!(store.at(day + 1).forget_expired_keys().await.unwrap(), 1);
    assert_eq!(store.forget_expired_keys().await.unwrap(), 0);
    let kept = insert_once(store, "k", &other).await;
    assert!(matches!(kept, Inserted::Earlier(Earlier::Same(_))));
    assert_eq!(number_of_jobs(store).await, 3);
}

pub(super) async fn a_job_that_cannot_be_stored_leaves_no_key(store: &TestStore) {
    let job = new_job("m", at(0));
    store.insert_job(&job).await.unwrap();
    let request = request("k", &json!({}));
    let twice = store.insert_job_once(&job, &request, &answer).await;
    assert!(twice.is_err());
    assert_eq!(store.lookup_earlier(&request).await.unwrap(), None);
}

fn of_work(fingerprint: &str) -> Job {
    Job {
        fingerprint: Some(fingerprint.to_owned()),
        ..new_job("m", at(0))
    }
}

pub(super) async fn a_job_that_does_the_same_work_is_found_until_it_fails(store: &TestStore) {
    let insert = async |job: &Job, key: Option<&KeyedRequest>| {
        let inserted = store.insert_job_unless_equal(job, key, &answer).await;
        inserted.unwrap()
    };
    let first = of_work("a");
    store.insert_job(&first).await.unwrap();
    assert_eq!(job(store, first.id).await.fingerprint, first.fingerprint);
    let key = request("k", &json!({}));
    let equal = Inserted::Equal(first.id);
    assert_eq!(insert(&of_work("a"), Some(&key)).await, equal);
    assert_eq!(store.lookup_earlier(&key).await.unwrap(), None);
    let lease = claim(store, "w", 1).await.unwrap();
    assert_eq!(insert(&of_work("a"), None).await, equal);
    assert!(matches!(
        insert(&of_work("b"), None).await,
        Inserted::New(_)
    ));
    let unknown = || new_job("m", at(0));
    assert!(matches!(insert(&unknown(), None).await, Inserted::New(_)));
    assert!(matches!(insert(&unknown(), None).await, Inserted::New(_)));
    assert!(finish(store, &lease, &succeeded(1)).await);
    assert_eq!(insert(&of_work("a"), None).await, equal);
    store.request(first.id, Action::Delete, None).await.unwrap();
    let second = insert(&of_work("a"), Some(&key)).await;
    let Inserted::New(second) = second else {
        panic!("{second:?}");
    };
    let repeated = insert(&of_work("a"), Some(&key)).await;
    assert_eq!(repeated, Inserted::Earlier(Earlier::Same(second.clone())));
    cancel(store, second.job_id, 2).await;
    assert!(matches!(
        insert(&of_work("a"), None).await,
        Inserted::New(_)
    ));
}

pub(super) async fn of_jobs_of_the_same_work_one_that_succeeded_is_found_first(store: &TestStore) {
    let found = async || store.lookup_equal("a").await.unwrap();
    assert_eq!(found().await, None);
    let (first, second) = (of_work("a"), of_work("a"));
    store.insert_job(&first).await.unwrap();
    let lease = claim(store, "w", 1).await.unwrap();
    store.insert_job(&second).await.unwrap();
    assert_eq!(found().await, Some(second.id.max(first.id)));
    assert!(finish(store, &lease, &succeeded(1)).await);
    assert_eq!(found().await, Some(first.id));
}

pub(super) async fn however_many_ask_for_the_same_work_one_job_is_made(store: &TestStore) {
    let jobs: Vec<_> = (0..30).map(|_| of_work("a")).collect();
    let asked = jobs.iter();
    let asked = asked.map(|job| store.insert_job_unless_equal(job, None, &answer));
    let inserted = futures::future::join_all(asked).await;
    let is_new =
        |inserted: &&Result<Inserted, StoreError>| matches!(inserted, Ok(Inserted::New(_)));
    assert_eq!(inserted.iter().filter(is_new).count(), 1, "{inserted:?}");
    assert!(inserted.iter().all(Result::is_ok), "{inserted:?}");
    assert_eq!(number_of_jobs(store).await, 1);
}
