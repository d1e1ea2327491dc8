//! Following what happens: the log of all jobs, that of one with its progress, and waiting for a job.

pub(super) mod feed;
pub(super) mod watches;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Error, Jobs};
use crate::domain::JobId;
use crate::domain::job::Job;
use crate::domain::job::state::JobState;
pub use feed::Entry;
use feed::{Follower, Scope};
use watches::Seen;

/// The shortest time between two reports of a job's progress.
const PROGRESS_PAUSE: Duration = Duration::from_millis(500);

/// A log that is followed.
#[derive(Debug)]
pub struct Following {
    follower: Follower,
    /// Where it goes on.
    pub position: u64,
    /// Whether the requested position is beyond the end of the log.
    ///
    /// Then it belongs to another log, perhaps that of a database that was replaced by a backup.
    pub is_elsewhere: bool,
    job: Option<Watched>,
}

/// The one job that is followed.
#[derive(Debug)]
struct Watched {
    seen: watch::Receiver<Seen>,
    /// When its progress may be reported again; `None` = at once.
    not_before: Option<Instant>,
}

/// What comes next in a log.
#[derive(Debug, Clone, PartialEq)]
pub enum LogItem {
    /// An event.
    Event(Box<Entry>),
    /// The job that is followed has changed; not a part of the log.
    Progress(Arc<Job>),
    /// The job that is followed is over; `None` = it was deleted.
    Over(Option<JobState>),
}

impl Jobs {
    /// Begins to read the log for those who follow it, until `stop` is cancelled.
    pub async fn read_log(&self, stop: CancellationToken) -> Result<(), Error> {
        Ok(self.feed.clone().start(stop).await?)
    }

    /// The log of all jobs: after an event, or from now on.
    pub async fn follow_all(&self, after: Option<u64>) -> Result<Following, Error> {
        let last = self.parts.store.last_event_number().await?;
        let position = after.unwrap_or(last).min(last);
        Ok(Following {
            follower: self.feed.follow(Scope::All, position),
            position,
            is_elsewhere: after.is_some_and(|after| after > last),
            job: None,
        })
    }

    /// The log of one job after an event, and its progress; `None` when the job is over and that event was the last one.
    pub async fn follow(&self, id: JobId, after: u64) -> Result<Option<Following>, Error> {
        let store = &self.parts.store;
        let is_elsewhere = match after.checked_sub(1) {
            Some(before) => store.list_events(id, before, 1).await?.is_empty(),
            None => false,
        };
        let position = if is_elsewhere { 0 } else { after };
        // The job is looked at before its log: one that is tried again after that has an event of it.
        let job = Arc::new(self.get(id).await?);
        if job.state.is_terminal() && store.list_events(id, position, 1).await?.is_empty() {
            return Ok(None);
        }
        let seen = self.watches.watch(&job);
        Ok(Some(Following {
            follower: self.feed.follow(Scope::Job(id), position),
            position,
            is_elsewhere,
            job: Some(Watched {
                seen,
                not_before: None,
            }),
        }))
    }

    /// Waits until the job matches or is gone, for `limit` at most.
    pub async fn wait(
        &self,
        job: Job,
        limit: Duration,
        is_as_wanted: impl Fn(&Job) -> bool + Send + Sync,
    ) {
        let job = Arc::new(job);
        if is_as_wanted(&job) {
            return;
        }
        let mut seen = self.watches.watch(&job);
        let wanted = seen.wait_for(|seen| seen.as_deref().is_none_or(&is_as_wanted));
        // Whoever waits looks at the job again, whatever came first.
        drop(tokio::time::timeout(limit, wanted).await);
    }
}

impl Following {
    /// What comes next. Nothing is lost when this is not waited for to its end.
    pub async fn next(&mut self) -> Result<LogItem, Error> {
        let Some(job) = &mut self.job else {
            return match self.follower.next().await? {
                Some(entry) => Ok(LogItem::Event(Box::new(entry))),
                None => Ok(LogItem::Over(None)),
            };
        };
        tokio::select! {
            biased;
            entry = self.follower.next() => Ok(match entry? {
                Some(entry) => LogItem::Event(Box::new(entry)),
                None => LogItem::Over(self.follower.over()),
            }),
            seen = job.changed() => Ok(match seen {
                Some(job) => LogItem::Progress(job),
                None => LogItem::Over(None),
            }),
        }
    }
}

impl Watched {
    /// The job at once the first time, later when it changes, and not too often.
    async fn changed(&mut self) -> Seen {
        if let Some(not_before) = self.not_before {
            tokio::time::sleep_until(not_before).await;
            // The sender lives as long as anybody receives.
            if self.seen.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
        self.not_before = Some(Instant::now() + PROGRESS_PAUSE);
        self.seen.borrow_and_update().clone()
    }
}
