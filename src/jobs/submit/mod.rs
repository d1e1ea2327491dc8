//! Submitting a job.

mod check;
mod duplicates;
mod validate;

use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use super::{Error, Jobs};
use crate::domain::JobId;
use crate::domain::idempotency::{KeyedRequest, OnDuplicate, Reply};
use crate::domain::job::Job;
use crate::domain::job::scheduling::Scheduling;
use crate::models::{Checked, CheckedModel};
use crate::request::JobRequest;
use crate::store::{Earlier, Inserted};
use crate::traces;
pub use validate::{Acceptable, Validation};

/// An accepted submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Submitted {
    /// A job was made, and this is what the client is told of it.
    New(Reply),
    /// An earlier request under the same key made the job.
    Repeated(Reply),
    /// No job was made: this one does the same work, or has done it.
    Equal(JobId),
}

impl Submitted {
    /// The job.
    pub fn id(&self) -> JobId {
        match self {
            Self::New(reply) | Self::Repeated(reply) => reply.job_id,
            Self::Equal(id) => *id,
        }
    }
}

impl Jobs {
    /// Checks a submission and queues it. When this returns, the job survives a crash.
    ///
    /// `describe` writes the body of the answer. Under a key it is stored with the job, and a repetition gets it again.
    pub async fn submit(
        &self,
        body: &Value,
        key: Option<&KeyedRequest>,
        describe: &(dyn Fn(&Job) -> String + Send + Sync),
    ) -> Result<Submitted, Error> {
        // Before the checks: an accepted submission stays so, whatever became of its model.
        if let Some(request) = key
            && let Some(earlier) = self.parts.store.lookup_earlier(request).await?
        {
            return self.repeated(earlier).await;
        }
        let (job, on_duplicate) = self.check(body).await?;
        if let Err(full) = self.check_room().await {
            // What is done already needs no room.
            return match self.equal(&job, on_duplicate).await? {
                Some(id) => Ok(Submitted::Equal(id)),
                None => Err(full),
            };
        }
        let answer = |job: &Job| Reply {
            job_id: job.id,
            version: job.version,
            created_at: job.created_at,
            body: describe(job),
        };
        let store = &self.parts.store;
        let stored = if on_duplicate == OnDuplicate::Return {
            store.insert_job_unless_equal(&job, key, &answer).await
        } else if let Some(request) = key {
            store.insert_job_once(&job, request, &answer).await
        } else {
            let stored = store.insert_job(&job).await;
            stored.map(|job| Inserted::New(answer(&job)))
        };
        match stored.map_err(|error| check::not_stored(&job, error))? {
            Inserted::New(reply) => {
                self.announce(&job);
                Ok(Submitted::New(reply))
            }
            Inserted::Equal(id) => Ok(Submitted::Equal(id)),
            Inserted::Earlier(earlier) => self.repeated(earlier).await,
        }
    }

    /// The job of a submission, ready to be stored.
    async fn check(&self, body: &Value) -> Result<(Job, OnDuplicate), Error> {
        let mut request = JobRequest::parse(body, self.parts.defaults).map_err(Error::Invalid)?;
        let checked = check::complete(&self.parts, request.spec.clone()).await?;
        request.spec = checked.spec.clone();
        let on_duplicate = request.on_duplicate;
        Ok((self.job(request, &checked), on_duplicate))
    }

    /// A job of a request that was checked.
    fn job(&self, request: JobRequest, checked: &Checked) -> Job {
        let now = self.parts.clock.now();
        let fingerprint = duplicates::fingerprint(&request.spec, &checked.models);
        let mut job = Job::new(self.mint_id(now), request.spec, now);
        job.fingerprint = fingerprint.map(|fingerprint| fingerprint.to_string());
        job.name = request.name;
        job.metadata = request.metadata;
        job.scheduling = Scheduling {
            memory_bytes: checked.memory_bytes,
            disk_bytes: checked.disk_bytes,
            work: checked.work,
            ..request.scheduling
        };
        job.run_after = request.run_after.unwrap_or(job.run_after);
        for pinned in checked.models.iter().filter_map(CheckedModel::pinned) {
            // Two models of one revision are one commit, also where the branch moved between two looks.
            if !job
                .commits
                .iter()
                .any(|known| known.is_of(&pinned.id, &pinned.revision))
            {
                job.commits.push(pinned);
            }
        }
        job.traceparent = traces::current();
        job
    }

    /// The job that does the same work, where the submission asks for it.
    async fn equal(&self, job: &Job, on_duplicate: OnDuplicate) -> Result<Option<JobId>, Error> {
        match &job.fingerprint {
            Some(fingerprint) if on_duplicate == OnDuplicate::Return => {
                Ok(self.parts.store.lookup_equal(fingerprint).await?)
            }
            _ => Ok(None),
        }
    }

    /// The answer to an earlier request, unless its job was deleted since.
    async fn repeated(&self, earlier: Earlier) -> Result<Submitted, Error> {
        match earlier {
            Earlier::Same(reply) => {
                self.get(reply.job_id).await?;
                Ok(Submitted::Repeated(reply))
            }
            Earlier::Other => Err(Error::KeyReused),
        }
    }

    fn announce(&self, job: &Job) {
        if let Some(spec) = job.spec.known() {
            check::count(spec);
            let (kind, model) = (spec.job_type().as_str(), spec.model().id());
            tracing::info!(job.id = %job.id, kind, %model, "job queued");
        }
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
}
