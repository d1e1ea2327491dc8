//! Jobs that clients watch: one task reads each, for all its clients.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::watch;

use super::feed::Feed;
use crate::domain::JobId;
use crate::domain::job::Job;
use crate::domain::job::event::Numbered;
use crate::store::Store;

/// How often a job is read: its progress is not in the log.
const POLL: Duration = Duration::from_millis(500);

/// The job as it was last seen; `None` once it was deleted.
pub(in crate::jobs) type Seen = Option<Arc<Job>>;

/// The jobs that are watched.
#[derive(Debug)]
pub(in crate::jobs) struct Watches {
    store: Arc<dyn Store>,
    feed: Feed,
    jobs: Mutex<HashMap<JobId, Arc<watch::Sender<Seen>>>>,
}

impl Watches {
    pub(in crate::jobs) fn new(store: Arc<dyn Store>, feed: Feed) -> Arc<Self> {
        let jobs = Mutex::default();
        Arc::new(Self { store, feed, jobs })
    }

    /// The job from now on, for a client that has just read it.
    pub(in crate::jobs) fn watch(self: &Arc<Self>, job: &Arc<Job>) -> watch::Receiver<Seen> {
        let mut jobs = self.lock();
        if let Some(sender) = jobs.get(&job.id) {
            // What was seen for others may be older.
            sender.send_if_modified(|seen| {
                let newer = (job.version, job.updated_at);
                let is_newer = seen
                    .as_ref()
                    .is_some_and(|seen| (seen.version, seen.updated_at) < newer);
                if is_newer {
                    *seen = Some(Arc::clone(job));
                }
                is_newer
            });
            return sender.subscribe();
        }
        let (sender, receiver) = watch::channel(Some(Arc::clone(job)));
        let sender = Arc::new(sender);
        jobs.insert(job.id, Arc::clone(&sender));
        let news = self.feed.subscribe();
        tokio::spawn(Arc::clone(self).look(job.id, sender, news));
        receiver
    }

    /// Reads a job until no client watches it.
    async fn look(
        self: Arc<Self>,
        id: JobId,
        sender: Arc<watch::Sender<Seen>>,
        mut news: broadcast::Receiver<Arc<Numbered>>,
    ) {
        while !self.is_forgotten(id, &sender) {
            match self.store.lookup_job(id).await {
                Ok(found) => {
                    let moment =
                        |seen: &Seen| seen.as_ref().map(|job| (job.version, job.updated_at));
                    let found = found.map(Arc::new);
                    sender.send_if_modified(|seen| {
                        // Whoever has begun to wait meanwhile may have seen more.
                        let is_new =
                            found.is_none() != seen.is_none() || moment(&found) > moment(seen);
                        if is_new {
                            *seen = found;
                        }
                        is_new
                    });
                }
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::debug!(error, job.id = %id, "cannot read a watched job");
                }
            }
            let poll = tokio::time::sleep(POLL);
            tokio::select! {
                () = poll => {}
                () = heard_of(id, &mut news) => {}
                () = sender.closed() => {}
            }
        }
    }

    fn is_forgotten(&self, id: JobId, sender: &watch::Sender<Seen>) -> bool {
        let mut jobs = self.lock();
        let is_forgotten = sender.receiver_count() == 0;
        if is_forgotten {
            jobs.remove(&id);
        }
        is_forgotten
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<JobId, Arc<watch::Sender<Seen>>>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Until something happens to the job, or may have.
async fn heard_of(id: JobId, news: &mut broadcast::Receiver<Arc<Numbered>>) {
    loop {
        match news.recv().await {
            Ok(numbered) if numbered.job_id == id => return,
            Ok(_) => {}
            Err(RecvError::Lagged(_)) => return,
            Err(RecvError::Closed) => return std::future::pending().await,
        }
    }
}
