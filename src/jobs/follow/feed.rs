//! The log of all jobs as it grows: one task reads it and sends it to every follower.
//!
//! A follower that is late or too slow reads the rest from the database, a batch at a time. So no event is missed or sent
//! twice, and no memory is used for clients that do not read.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio_util::sync::CancellationToken;

use crate::domain::JobId;
use crate::domain::job::event::{Event, Numbered};
use crate::domain::job::state::JobState;
use crate::store::{Store, StoreError};

/// Events in the channel; a follower further behind reads from the database.
const BACKLOG: usize = 256;

/// Events that are read at once.
const BATCH: u32 = 100;

/// How often the database is read: notifications are neither available everywhere nor reliable.
const POLL: Duration = Duration::from_millis(250);

/// Wait after the database did not answer.
const PAUSE: Duration = Duration::from_secs(1);

/// What followers share.
#[derive(Debug, Clone)]
pub(in crate::jobs) struct Feed {
    store: Arc<dyn Store>,
    news: broadcast::Sender<Arc<Numbered>>,
}

impl Feed {
    /// The feed of a database; it is silent until it is started.
    pub(in crate::jobs) fn new(store: Arc<dyn Store>) -> Self {
        let (news, _) = broadcast::channel(BACKLOG);
        Self { store, news }
    }

    /// Begins to read, until `stop` is cancelled.
    pub(in crate::jobs) async fn start(self, stop: CancellationToken) -> Result<(), StoreError> {
        // Known before anybody can follow: whatever is newer is heard by all of them.
        let position = self.store.last_event_number().await?;
        tokio::spawn(stop.run_until_cancelled_owned(self.read_on(position)));
        Ok(())
    }

    async fn read_on(self, mut position: u64) {
        let mut changes = self.store.changes();
        let mut is_away = false;
        loop {
            let events = self.store.list_all_events(position, BATCH).await;
            let wait = match events {
                Ok(events) => {
                    is_away = false;
                    let is_full = events.len() == BATCH as usize;
                    for event in events {
                        position = event.number;
                        // Perhaps nobody follows.
                        drop(self.news.send(Arc::new(event)));
                    }
                    if is_full {
                        continue;
                    }
                    POLL
                }
                Err(error) => {
                    if !is_away {
                        let error = &error as &dyn std::error::Error;
                        tracing::warn!(error, "cannot read the log, its followers wait");
                    }
                    is_away = true;
                    PAUSE
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                Some(_change) = changes.next(), if !is_away => {}
            }
        }
    }

    pub(in crate::jobs) fn subscribe(&self) -> broadcast::Receiver<Arc<Numbered>> {
        self.news.subscribe()
    }

    /// Everything after `position`.
    pub(in crate::jobs) fn follow(&self, scope: Scope, position: u64) -> Follower {
        Follower {
            news: self.subscribe(),
            store: Arc::clone(&self.store),
            scope,
            position,
            batch: VecDeque::new(),
            is_behind: true,
            over: None,
        }
    }
}

/// Whose log is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::jobs) enum Scope {
    All,
    Job(JobId),
}

/// An event, and where it stands in the log that is followed: its number among all events, or within its job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// To go on after it.
    pub position: u64,
    /// The job.
    pub job_id: JobId,
    /// What happened to it.
    pub event: Event,
}

impl Scope {
    /// The entry of an event; `None` for another job's, or one that cannot be read.
    fn entry(self, numbered: &Numbered) -> Option<Entry> {
        let event = numbered.event.clone()?;
        let position = match self {
            Self::All => numbered.number,
            Self::Job(id) if id == numbered.job_id => event.seq,
            Self::Job(_) => return None,
        };
        Some(Entry {
            position,
            job_id: numbered.job_id,
            event,
        })
    }

    async fn read(self, store: &dyn Store, after: u64) -> Result<EventBatch, StoreError> {
        Ok(match self {
            Self::All => {
                let events = store.list_all_events(after, BATCH).await?;
                EventBatch {
                    is_full: events.len() == BATCH as usize,
                    end: events.last().map_or(after, |last| last.number),
                    entries: events.iter().filter_map(|e| self.entry(e)).collect(),
                }
            }
            Self::Job(job_id) => {
                let events = store.list_events(job_id, after, BATCH).await?;
                let entry = |event: Event| Entry {
                    position: event.seq,
                    job_id,
                    event,
                };
                EventBatch {
                    is_full: events.len() == BATCH as usize,
                    end: events.last().map_or(after, |last| last.seq),
                    entries: events.into_iter().map(entry).collect(),
                }
            }
        })
    }
}

/// What was read of a log at once.
struct EventBatch {
    entries: Vec<Entry>,
    /// Where to read on, also where the last entries cannot be read.
    end: u64,
    is_full: bool,
}

/// A client that follows a log.
#[derive(Debug)]
pub(in crate::jobs) struct Follower {
    news: broadcast::Receiver<Arc<Numbered>>,
    store: Arc<dyn Store>,
    scope: Scope,
    /// Of the last event that was handed out.
    position: u64,
    /// Read, and not handed out yet.
    batch: VecDeque<Entry>,
    /// Whether events must be read from the database.
    is_behind: bool,
    /// The final state of the followed job, once its last event was returned.
    over: Option<JobState>,
}

impl Follower {
    /// How the job that is followed ended, once its last event was handed out.
    pub(in crate::jobs) fn over(&self) -> Option<JobState> {
        self.over
    }

    /// The next event; `None` after the last one of a job that is over. Nothing is lost when this is not waited for to
    /// its end.
    pub(in crate::jobs) async fn next(&mut self) -> Result<Option<Entry>, StoreError> {
        loop {
            if let Some(entry) = self.batch.pop_front() {
                self.position = entry.position;
                let is_one = self.scope != Scope::All;
                self.over = entry.event.kind.final_state().filter(|_| is_one);
                return Ok(Some(entry));
            }
            if self.is_behind {
                let batch = self.scope.read(&*self.store, self.position).await?;
                // What comes after a batch that is not full was written after it was read: it will be heard of.
                self.is_behind = batch.is_full;
                if batch.entries.is_empty() {
                    self.position = batch.end;
                }
                self.batch.extend(batch.entries);
                continue;
            }
            if self.over.is_some() {
                return Ok(None);
            }
            match self.news.recv().await {
                Ok(numbered) => {
                    let entry = self.scope.entry(&numbered);
                    // What was read may be heard of again.
                    self.batch
                        .extend(entry.filter(|entry| entry.position > self.position));
                }
                Err(RecvError::Lagged(_)) => self.is_behind = true,
                Err(RecvError::Closed) => return Ok(None),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use sqlx::{Connection as _, Executor as _, SqliteConnection};

    use super::*;
    use crate::clock::{Clock as _, SystemClock};
    use crate::domain::job::Job;
    use crate::request::{Defaults, JobRequest};
    use crate::store::{self, DatabaseUrl, Time};

    /// More than the channel holds.
    const EVENTS: u64 = BACKLOG as u64 + 50;

    async fn add(store: &dyn Store, jobs: u64) {
        let body = json!({"model": "demo", "sparsity": 0.5});
        let spec = JobRequest::parse(&body, Defaults::CPU).unwrap().spec;
        for _ in 0..jobs {
            let id = JobId::new(uuid::Uuid::now_v7());
            let job = Job::new(id, spec.clone(), SystemClock.now());
            store.insert_job(&job).await.unwrap();
        }
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_left_out_and_what_follows_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("test.db");
        let url = DatabaseUrl::file(&file);
        let store = store::open(&url, Time::Database).await.unwrap();
        add(&*store, u64::from(BATCH) + 50).await;
        let mut connection = SqliteConnection::connect(&format!("sqlite://{}", file.display()))
            .await
            .unwrap();
        // As a newer version might have written it; more than is read at once.
        let statement = "update events set kind = '{\"type\":\"polished\"}' where number > 1";
        connection.execute(statement).await.unwrap();
        add(&*store, 1).await;
        let feed = Feed::new(store);
        feed.clone().start(CancellationToken::new()).await.unwrap();
        let mut follower = feed.follow(Scope::All, 0);
        let last = u64::from(BATCH) + 51;
        for position in [1, last] {
            assert_eq!(follower.next().await.unwrap().unwrap().position, position);
        }
    }

    #[tokio::test]
    async fn whoever_is_too_slow_for_the_channel_misses_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let url = DatabaseUrl::file(&dir.path().join("test.db"));
        let store = store::open(&url, Time::Database).await.unwrap();
        let feed = Feed::new(Arc::clone(&store));
        feed.clone().start(CancellationToken::new()).await.unwrap();
        let mut slow = feed.follow(Scope::All, 0);
        add(&*store, 1).await;
        assert_eq!(slow.next().await.unwrap().unwrap().position, 1);
        let mut news = feed.subscribe();
        let all_told = async {
            // Told of more than it keeps, the channel has lost some of it for `slow`.
            while !matches!(news.recv().await, Ok(told) if told.number == EVENTS) {}
        };
        tokio::join!(add(&*store, EVENTS - 1), all_told);
        add(&*store, 1).await;
        for position in 2..=EVENTS + 1 {
            assert_eq!(slow.next().await.unwrap().unwrap().position, position);
        }
    }
}
