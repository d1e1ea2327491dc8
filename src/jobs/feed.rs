//! The log of all jobs as it grows: one task reads it from the database, and everybody who follows it hears from that.
//!
//! A follower that comes late, or is too slow, reads what it lacks from the database, a batch at a time. So nobody
//! misses an event or gets one twice, and nothing is kept for those who do not read.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio_util::sync::CancellationToken;

use crate::domain::history::{Event, Numbered};
use crate::domain::{JobId, JobState};
use crate::store::{Store, StoreError};

/// Events that a follower may be behind by before it reads them from the database.
const BACKLOG: usize = 1024;

/// Events that are read at once.
const BATCH: u32 = 200;

/// How often the database is looked at. Not every database tells of what others have written, and none for sure.
const POLL: Duration = Duration::from_millis(250);

/// Wait after the database did not answer.
const PAUSE: Duration = Duration::from_secs(1);

/// What followers share.
#[derive(Debug, Clone)]
pub struct Feed {
    store: Arc<dyn Store>,
    news: broadcast::Sender<Arc<Numbered>>,
}

impl Feed {
    /// Begins to read, until `stop` is cancelled.
    pub async fn start(store: Arc<dyn Store>, stop: CancellationToken) -> Result<Self, StoreError> {
        // Known before anybody can follow: whatever is newer is heard by all of them.
        let position = store.last_event_number().await?;
        let (news, _) = broadcast::channel(BACKLOG);
        let feed = Self { store, news };
        tokio::spawn(stop.run_until_cancelled_owned(feed.clone().read_on(position)));
        Ok(feed)
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
                        tracing::warn!(error, "cannot read the log, those who follow it wait");
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

    pub(super) fn subscribe(&self) -> broadcast::Receiver<Arc<Numbered>> {
        self.news.subscribe()
    }

    /// Everything after `position`.
    pub(super) fn follow(&self, scope: Scope, position: u64) -> Follower {
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
pub(super) enum Scope {
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
    fn entry(self, numbered: &Numbered) -> Option<Entry> {
        let position = match self {
            Self::All => numbered.number,
            Self::Job(id) if id == numbered.job_id => numbered.event.seq,
            Self::Job(_) => return None,
        };
        Some(Entry {
            position,
            job_id: numbered.job_id,
            event: numbered.event.clone(),
        })
    }

    async fn read(self, store: &dyn Store, after: u64) -> Result<Vec<Entry>, StoreError> {
        Ok(match self {
            Self::All => {
                let events = store.list_all_events(after, BATCH).await?;
                events
                    .iter()
                    .filter_map(|event| self.entry(event))
                    .collect()
            }
            Self::Job(job_id) => {
                let events = store.list_events(job_id, after, BATCH).await?.into_iter();
                let entry = |event: Event| Entry {
                    position: event.seq,
                    job_id,
                    event,
                };
                events.map(entry).collect()
            }
        })
    }
}

/// Somebody who follows a log.
#[derive(Debug)]
pub(super) struct Follower {
    news: broadcast::Receiver<Arc<Numbered>>,
    store: Arc<dyn Store>,
    scope: Scope,
    /// Of the last event that was handed out.
    position: u64,
    /// Read, and not handed out yet.
    batch: VecDeque<Entry>,
    /// Whether the database has events that will not be heard of.
    is_behind: bool,
    /// How the one job that is followed ended, if the last event that was handed out says so.
    over: Option<JobState>,
}

impl Follower {
    /// How the job that is followed ended, once its last event was handed out.
    pub(super) fn over(&self) -> Option<JobState> {
        self.over
    }

    /// The next event; `None` after the last one of a job that is over. Nothing is lost when this is not waited for to
    /// its end.
    pub(super) async fn next(&mut self) -> Result<Option<Entry>, StoreError> {
        loop {
            if let Some(entry) = self.batch.pop_front() {
                self.position = entry.position;
                let is_one = self.scope != Scope::All;
                self.over = entry.event.kind.final_state().filter(|_| is_one);
                return Ok(Some(entry));
            }
            if self.is_behind {
                let entries = self.scope.read(&*self.store, self.position).await?;
                // What comes after a batch that is not full was written after it was read: it will be heard of.
                self.is_behind = entries.len() == BATCH as usize;
                self.batch.extend(entries);
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
