//! What can be done with jobs: the only door from HTTP to the database and the artifacts.

mod capacity;
mod feed;
mod follow;
mod gauges;
mod queue;
mod readiness;
mod results;
mod submit;
mod watch;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::{Notify, broadcast};
use uuid::{ContextV7, Uuid};

use crate::artifacts::{ArtifactError, ArtifactStore};
use crate::clock::Clock;
use crate::datasets::{DataRoots, Use};
use crate::domain::JobId;
use crate::domain::idempotency::{KeyedRequest, Reply};
use crate::domain::job::event::{Attempt, Event};
use crate::domain::job::scheduling::Scheduling;
use crate::domain::job::state::{Action, JobState};
use crate::domain::job::{Job, JobFilter};
use crate::domain::spec::DatasetRef;
use crate::domain::task_info::TaskInfo;
use crate::domain::{ErrorCode, Refusal};
use crate::models::ModelLibrary;
use crate::request::{Defaults, FieldError, JobRequest};
use crate::store::{Answer, Earlier, Inserted, Requested, Store, StoreError};
use crate::traces;
pub use capacity::Full;
pub use feed::Entry;
use feed::Feed;
pub use follow::{Following, Step};
pub use readiness::Check;
pub use results::ArtifactFile;
use watch::Watches;

/// Why a use-case ended without what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The submission has wrong fields; all of them are listed.
    #[error("the request has {} wrong {}", .0.len(), if .0.len() == 1 { "field" } else { "fields" })]
    Invalid(Vec<FieldError>),
    /// The submission is well-formed and cannot be done; never empty.
    #[error("the job cannot be accepted")]
    Refused(Vec<Refusal>),
    /// Whether the submission can be done could not be found out.
    #[error("the submission could not be checked")]
    Unchecked(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// There is no room for one more job.
    #[error(transparent)]
    Full(Full),
    /// The key was used for another submission.
    #[error("the key was sent with another body within the last 24 hours")]
    KeyReused,
    /// No such job.
    #[error("no job has the id {0}")]
    JobNotFound(JobId),
    /// No such worker.
    #[error("no worker has the id {0:?}")]
    WorkerNotFound(String),
    /// The job has not succeeded (yet).
    #[error("the job {id} is {}, results exist once it has succeeded", state.as_str())]
    ResultsNotReady {
        /// The job.
        id: JobId,
        /// Its state.
        state: JobState,
    },
    /// The job has no such file.
    #[error("the job {id} has no artifact {name:?}")]
    ArtifactNotFound {
        /// The job.
        id: JobId,
        /// The name asked for.
        name: String,
    },
    /// A file of the job is not there any more, or has another length.
    #[error("artifact {name:?} of job {id} has {stored:?} bytes, expected {expected}")]
    ArtifactDamaged {
        /// The job.
        id: JobId,
        /// The file.
        name: String,
        /// Its length; `None` when it is not there.
        stored: Option<u64>,
        /// What was published.
        expected: u64,
    },
    /// The job's state does not allow what was asked.
    #[error("{} is not possible while the job is {}", action.as_str(), state.as_str())]
    NotAllowed {
        /// What was asked.
        action: Action,
        /// Its state.
        state: JobState,
    },
    /// Another job that is not over works on what this one has brought.
    #[error("the job {id} cannot be deleted before {user}, which uses its artifact, is over")]
    InUse {
        /// The job.
        id: JobId,
        /// The other one.
        user: JobId,
    },
    /// The job has changed since the client saw it.
    #[error("the job {id} is of version {version} now")]
    Stale {
        /// The job.
        id: JobId,
        /// Its version.
        version: u64,
    },
    /// What was asked is done, and the job cannot be shown: another version of this program wrote it.
    #[error("the job {id} is {} now, and cannot be read by this version", state.as_str())]
    Unreadable {
        /// The job.
        id: JobId,
        /// Its state.
        state: JobState,
    },
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The artifact store failed.
    #[error(transparent)]
    Artifacts(#[from] ArtifactError),
}

/// How jobs reach a worker in the same process without waiting for its next look into the database.
#[derive(Debug, Clone)]
pub struct Signals {
    /// A job was queued.
    pub wake: Arc<Notify>,
    /// Something is asked of whoever works on the job.
    pub asked: broadcast::Sender<JobId>,
    /// There may be something to send to a webhook.
    pub outbox: Arc<Notify>,
}

/// What the use-cases work with.
#[derive(Debug)]
pub struct Parts {
    /// The database.
    pub store: Arc<dyn Store>,
    /// The artifacts.
    pub artifacts: Arc<dyn ArtifactStore>,
    /// Where local models lie.
    pub models: ModelLibrary,
    /// Where data sets lie. The workers read the same directories.
    pub datasets: DataRoots,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What a submission may leave out.
    pub defaults: Defaults,
    /// To the workers of this process.
    pub signals: Signals,
    /// The directory that holds what is not put elsewhere.
    pub home: PathBuf,
    /// Every directory that jobs are written to.
    pub directories: Vec<PathBuf>,
    /// So many jobs may wait.
    pub most_queued: u32,
}

/// The use-cases. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Jobs {
    parts: Arc<Parts>,
    /// Ids made within one millisecond still sort in the order they were made.
    id_context: Arc<Mutex<ContextV7>>,
    /// The log, for those who follow it.
    feed: Feed,
    /// Jobs that somebody waits for.
    watches: Arc<Watches>,
}

/// What a submission under a key is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// The answer.
    pub reply: Reply,
    /// Whether it is the one to an earlier request.
    pub is_repeated: bool,
}

/// A page of jobs.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// Newest first.
    pub jobs: Vec<Job>,
    /// Where the next page begins; `None` on the last one.
    pub next: Option<JobId>,
}

/// The registered data sets that can be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisteredData {
    /// To calibrate on.
    pub calibration: Vec<DatasetRef>,
    /// To measure on.
    pub evaluation: Vec<DatasetRef>,
    /// Every declared task.
    pub tasks: Vec<TaskInfo>,
}

impl Jobs {
    /// Puts the parts together.
    pub fn new(parts: Parts) -> Self {
        let feed = Feed::new(Arc::clone(&parts.store));
        let watches = Watches::new(Arc::clone(&parts.store), feed.clone());
        Self {
            feed,
            watches,
            parts: Arc::new(parts),
            id_context: Arc::new(Mutex::new(ContextV7::new())),
        }
    }

    /// Checks a submission and queues it. When this returns, the job survives a crash.
    pub async fn submit(&self, body: &Value) -> Result<Job, Error> {
        let job = self.check(body).await?;
        self.check_room().await?;
        let stored = self.parts.store.insert_job(&job).await;
        let job = stored.map_err(|error| submit::not_stored(&job.spec, error))?;
        self.announce(&job);
        Ok(job)
    }

    /// The same for a submission that its client may repeat: `answer` makes what each of them is answered from the
    /// job, and is stored with it.
    pub async fn submit_once(
        &self,
        body: &Value,
        request: &KeyedRequest,
        answer: &Answer<'_>,
    ) -> Result<Answered, Error> {
        // Before the checks: what was accepted once is answered so, whatever has become of its model.
        if let Some(earlier) = self.parts.store.lookup_earlier(request).await? {
            return repeated(earlier);
        }
        let job = self.check(body).await?;
        self.check_room().await?;
        let inserted = self
            .parts
            .store
            .insert_job_once(&job, request, answer)
            .await;
        match inserted.map_err(|error| submit::not_stored(&job.spec, error))? {
            Inserted::New(reply) => {
                self.announce(&job);
                Ok(Answered {
                    reply,
                    is_repeated: false,
                })
            }
            Inserted::Earlier(earlier) => repeated(earlier),
        }
    }

    /// A job as it is to be stored.
    async fn check(&self, body: &Value) -> Result<Job, Error> {
        let request = JobRequest::parse(body, self.parts.defaults).map_err(Error::Invalid)?;
        let checked = submit::complete(&self.parts, request.spec).await?;
        let now = self.parts.clock.now();
        let mut job = Job::new(self.mint_id(now), checked.spec, now);
        job.name = request.name;
        job.metadata = request.metadata;
        job.scheduling = Scheduling {
            memory_bytes: checked.memory_bytes,
            ..request.scheduling
        };
        job.run_after = request.run_after.unwrap_or(job.run_after);
        job.traceparent = traces::current();
        Ok(job)
    }

    fn announce(&self, job: &Job) {
        submit::count(&job.spec);
        let (kind, model) = (job.spec.job_type().as_str(), job.spec.model().id());
        tracing::info!(job.id = %job.id, kind, %model, "job queued");
        self.parts.signals.wake.notify_one();
        self.parts.signals.outbox.notify_one();
    }

    fn mint_id(&self, now: Timestamp) -> JobId {
        let seconds = u64::try_from(now.as_second()).unwrap_or_default();
        let nanos = u32::try_from(now.subsec_nanosecond()).unwrap_or_default();
        JobId::new(Uuid::new_v7(uuid::Timestamp::from_unix(
            &*self.id_context,
            seconds,
            nanos,
        )))
    }

    /// One job.
    pub async fn get(&self, id: JobId) -> Result<Job, Error> {
        self.parts
            .store
            .lookup_job(id)
            .await?
            .ok_or(Error::JobNotFound(id))
    }

    /// One job and its attempts, as they were at one moment.
    pub async fn get_with_attempts(&self, id: JobId) -> Result<(Job, Vec<Attempt>), Error> {
        let found = self.parts.store.lookup_job_with_attempts(id).await?;
        found.ok_or(Error::JobNotFound(id))
    }

    /// A page of jobs, newest first, that begins after `before`.
    pub async fn list(
        &self,
        filter: &JobFilter,
        before: Option<JobId>,
        limit: u32,
    ) -> Result<Page, Error> {
        // One more than asked tells whether there is a next page.
        let mut jobs = self
            .parts
            .store
            .list_jobs(filter, before, limit + 1)
            .await?;
        let has_more = jobs.len() > limit as usize;
        jobs.truncate(limit as usize);
        let next = if has_more {
            jobs.last().map(|job| job.id)
        } else {
            None
        };
        Ok(Page { jobs, next })
    }

    /// Number of jobs in each state, zeros included.
    pub async fn counts(&self) -> Result<BTreeMap<JobState, u64>, Error> {
        let mut counts = BTreeMap::from(JobState::ALL.map(|state| (state, 0)));
        counts.extend(self.parts.store.count_jobs().await?);
        Ok(counts)
    }

    /// Does with a job what is asked, or asks its worker to. Repeating it is harmless.
    pub async fn request(
        &self,
        id: JobId,
        action: Action,
        if_version: Option<u64>,
    ) -> Result<(Job, Vec<Attempt>), Error> {
        self.check_room_to_queue(id, action).await?;
        let requested = self.parts.store.request(id, action, if_version).await?;
        match requested.ok_or(Error::JobNotFound(id))? {
            Requested::Done(job, attempts) => {
                self.pass_on(id, job.state);
                count_cancelled(job.state, action);
                Ok((*job, attempts))
            }
            Requested::Unchanged(job, attempts) => Ok((*job, attempts)),
            Requested::NotAllowed(state) => Err(Error::NotAllowed { action, state }),
            Requested::InUse(user) => Err(Error::InUse { id, user }),
            Requested::Stale(version) => Err(Error::Stale { id, version }),
            Requested::Unreadable(state) => {
                self.pass_on(id, state);
                Err(Error::Unreadable { id, state })
            }
        }
    }

    /// Nobody listens where the worker is another process: that one looks once a second.
    fn pass_on(&self, id: JobId, state: JobState) {
        let signals = &self.parts.signals;
        signals.outbox.notify_one();
        match state {
            JobState::Queued => signals.wake.notify_one(),
            JobState::Pausing | JobState::Cancelling => drop(signals.asked.send(id)),
            JobState::Running
            | JobState::Succeeded
            | JobState::Failed
            | JobState::Paused
            | JobState::Cancelled => {}
        }
    }

    /// Forgets a job that is over, and removes its files. A job that was deleted already is fine.
    pub async fn delete(&self, id: JobId, if_version: Option<u64>) -> Result<(), Error> {
        match self.request(id, Action::Delete, if_version).await {
            Ok((job, attempts)) => {
                tracing::info!(job.id = %id, "job deleted");
                self.remove_artifacts(&job, &attempts).await;
                Ok(())
            }
            // The sweep removes its files.
            Err(Error::Unreadable { .. }) => {
                tracing::info!(job.id = %id, "job deleted");
                Ok(())
            }
            Err(Error::JobNotFound(_))
                if self.parts.store.list_deleted(&[id]).await?.contains(&id) =>
            {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// What cannot be removed now is for the sweep.
    async fn remove_artifacts(&self, job: &Job, attempts: &[Attempt]) {
        let artifacts = &self.parts.artifacts;
        for attempt in attempts {
            if let Err(error) = artifacts.delete_attempt(job.id, attempt.attempt).await {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, job.id = %job.id, "cannot remove the artifact of a deleted job");
            }
        }
        artifacts.remove_empty(job.id).await;
    }

    /// Ends the jobs past their deadline that nobody works on; to be called now and then.
    pub async fn end_overdue(&self) -> Result<(), Error> {
        loop {
            let ended = self.parts.store.fail_overdue().await?;
            if ended.is_empty() {
                return Ok(());
            }
            for id in ended {
                tracing::warn!(job.id = %id, "job failed: it was not over by its deadline");
                let code = ErrorCode::DeadlineExceeded.as_str();
                metrics::counter!("secateur_jobs_finished_total", "status" => "failed", "code" => code)
                    .increment(1);
            }
        }
    }

    /// A part of a job's log.
    pub async fn events(&self, id: JobId, after: u64, limit: u32) -> Result<Vec<Event>, Error> {
        self.get(id).await?;
        Ok(self.parts.store.list_events(id, after, limit).await?)
    }

    /// The registered data sets that can be had.
    pub async fn datasets(&self) -> Result<RegisteredData, Error> {
        let parts = Arc::clone(&self.parts);
        let found = tokio::task::spawn_blocking(move || RegisteredData {
            calibration: parts.datasets.registered(Use::Calibration),
            evaluation: parts.datasets.registered(Use::Evaluation),
            tasks: parts.datasets.tasks(),
        });
        found.await.map_err(|panic| Error::Unchecked(panic.into()))
    }

    /// What a submission may leave out.
    pub fn defaults(&self) -> Defaults {
        self.parts.defaults
    }
}

/// One that nobody worked on is over by that; another one is counted by its worker.
fn count_cancelled(state: JobState, action: Action) {
    if action == Action::Cancel && state == JobState::Cancelled {
        let code = ErrorCode::Cancelled.as_str();
        metrics::counter!("secateur_jobs_finished_total", "status" => "cancelled", "code" => code)
            .increment(1);
    }
}

fn repeated(earlier: Earlier) -> Result<Answered, Error> {
    match earlier {
        Earlier::Same(reply) => Ok(Answered {
            reply,
            is_repeated: true,
        }),
        Earlier::Other => Err(Error::KeyReused),
    }
}
