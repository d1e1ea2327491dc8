//! A store on a fresh database, its clock, and the words that the suite speaks in.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use secateur::domain::spec::StoredSpec;
use secateur::request::{Defaults, JobRequest};
use secateur::store;
use serde_json::json;
use uuid::Uuid;

use super::*;
use crate::support::test_app::{cpu, publication};

/// A store on a fresh database, and its clock.
pub(super) struct TestStore {
    store: Arc<dyn Store>,
    millis: Arc<AtomicI64>,
    pub(super) database: Database,
}

impl TestStore {
    pub(super) async fn open(database: Database) -> Self {
        let millis = Arc::new(AtomicI64::new(at(0).as_millisecond()));
        let clock = Arc::clone(&millis);
        let now = move || Timestamp::from_millisecond(clock.load(Ordering::SeqCst)).unwrap();
        let time = Time::Given(Arc::new(now));
        let store = store::open(&database.as_url(), time).await.unwrap();
        Self {
            store,
            millis,
            database,
        }
    }

    /// Sets the clock.
    pub(super) fn at(&self, seconds: i64) -> &Self {
        self.millis
            .store(at(seconds).as_millisecond(), Ordering::SeqCst);
        self
    }
}

impl Deref for TestStore {
    type Target = dyn Store;

    fn deref(&self) -> &Self::Target {
        &*self.store
    }
}

/// What the lease of every claim is.
pub(super) const LEASE: Duration = Duration::from_mins(5);

pub(super) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + seconds).unwrap()
}

pub(super) fn new_job(model: &str, created: Timestamp) -> Job {
    let body = json!({"model": {"source": "local", "id": model}, "sparsity": 0.5, "name": "n", "metadata": {"k": "v"}});
    let request = JobRequest::parse(&body, Defaults::CPU).unwrap();
    let stamp = uuid::Timestamp::from_unix(uuid::NoContext, created.as_second().unsigned_abs(), 0);
    let mut job = Job::new(JobId::new(Uuid::new_v7(stamp)), request.spec, created);
    (job.name, job.metadata) = (request.name, request.metadata);
    job
}

/// A job of the type `evaluate` that names the artifact of another one.
pub(super) fn evaluation_of(artifact: JobId, created: Timestamp) -> Job {
    let body = json!({
        "type": "evaluate", "model": "org/name", "baseline": {"source": "job", "id": artifact},
        "evaluation": {"perplexity": ["demo"], "seq_len": 64},
    });
    Job {
        spec: StoredSpec::Known(JobRequest::parse(&body, Defaults::CPU).unwrap().spec),
        ..new_job("m", created)
    }
}

pub(super) async fn insert(store: &TestStore, seconds: i64) -> JobId {
    let job = new_job("m", at(seconds));
    store.at(seconds).insert_job(&job).await.unwrap();
    job.id
}

pub(super) fn claim_by(worker: &str) -> Claim {
    Claim {
        free_disk_bytes: None,
        worker_id: worker.to_owned(),
        device: cpu(),
        lease: LEASE,
    }
}

pub(super) async fn claim(store: &TestStore, worker: &str, seconds: i64) -> Option<Lease> {
    let job = store.at(seconds).claim_next_job(&claim_by(worker)).await;
    job.unwrap().map(|job| Lease::of(&job).unwrap())
}

pub(super) async fn job(store: &TestStore, id: JobId) -> Job {
    store.lookup_job(id).await.unwrap().unwrap()
}

pub(super) fn error(attempt: u32) -> JobError {
    let failure = AttemptFailure {
        code: ErrorCode::InsufficientDisk,
        message: "full".to_owned(),
        phase: Some(Phase::Pruning),
        retryable: true,
    };
    JobError { failure, attempt }
}

pub(super) fn retry(attempt: u32, crashed: bool, delay_seconds: u64) -> AttemptEnd {
    AttemptEnd::Retry {
        error: error(attempt),
        crashed,
        delay: Duration::from_secs(delay_seconds),
    }
}

pub(super) fn succeeded(attempt: u32) -> AttemptEnd {
    AttemptEnd::Succeeded(Box::new(publication(attempt)))
}

pub(super) async fn finish(store: &TestStore, lease: &Lease, ending: &AttemptEnd) -> bool {
    finish_at(store, lease, ending, 500).await
}

pub(super) async fn finish_at(
    store: &TestStore,
    lease: &Lease,
    ending: &AttemptEnd,
    seconds: i64,
) -> bool {
    let settled = store.at(seconds).finish(lease, ending, None).await;
    settled.unwrap().is_some()
}

pub(super) async fn attempts(store: &TestStore, id: JobId) -> Vec<Attempt> {
    store.lookup_job_with_attempts(id).await.unwrap().unwrap().1
}

/// The job after something was asked of it, whatever became of that.
pub(super) async fn ask(store: &TestStore, id: JobId, action: Action, seconds: i64) -> Job {
    let requested = store.at(seconds).request(id, action, None).await.unwrap();
    match requested.unwrap() {
        Requested::Done(job, _) | Requested::Unchanged(job, _) => *job,
        Requested::NotAllowed(state) => {
            let job = job(store, id).await;
            assert_eq!(job.state, state);
            job
        }
        Requested::InUse(user) => panic!("{user} needs it"),
        Requested::Stale(version) => panic!("no version was named, and {version} is another"),
    }
}

pub(super) async fn cancel(store: &TestStore, id: JobId, seconds: i64) -> Job {
    ask(store, id, Action::Cancel, seconds).await
}
