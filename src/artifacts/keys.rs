//! Names in the store. Those of a folder and of a bucket are the same below the root.

use object_store::path::Path as Key;

use crate::domain::JobId;

/// The name of the note that a job is unknown to the database.
pub(super) const UNKNOWN_SINCE: &str = "unknown-since";

/// The name of the file that holds the id of the store.
const STORE_ID: &str = "store-id";

/// The folder that holds one folder for each job.
pub(super) const JOBS: &str = "jobs";

/// The folder of a job's attempts.
pub(super) const ATTEMPTS: &str = "attempts";

/// The folder of a job's resume state.
pub(super) const RESUME_STATE: &str = "checkpoints";

/// The name of the index of an attempt's resume state.
pub(super) const INDEX: &str = "checkpoint.json";

/// The folder of notes on uploads in progress, beside the folder that is uploaded to.
pub(super) const UPLOADS: &str = "uploads";

/// The root that keys begin with.
#[derive(Debug, Clone, Default)]
pub(super) struct Root(Key);

impl Root {
    pub(super) fn new(prefix: Key) -> Self {
        Self(prefix)
    }

    pub(super) fn store_id(&self) -> Key {
        self.0.clone().join(STORE_ID)
    }

    pub(super) fn jobs(&self) -> Key {
        self.0.clone().join(JOBS)
    }

    pub(super) fn job(&self, job: JobId) -> Key {
        self.jobs().join(job.to_string())
    }

    pub(super) fn attempt(&self, job: JobId, attempt: u32) -> Key {
        self.job(job).join(ATTEMPTS).join(attempt.to_string())
    }

    /// The folder of the artifact itself.
    pub(super) fn dense(&self, job: JobId, attempt: u32) -> Key {
        self.attempt(job, attempt).join("dense")
    }

    pub(super) fn file(&self, job: JobId, attempt: u32, name: &str) -> Key {
        self.dense(job, attempt).join(name)
    }

    pub(super) fn resume_state(&self, job: JobId) -> Key {
        self.job(job).join(RESUME_STATE)
    }

    pub(super) fn resume_files(&self, job: JobId, attempt: u32) -> Key {
        let attempt = self.resume_state(job).join(attempt.to_string());
        attempt.join("files")
    }

    pub(super) fn resume_index(&self, job: JobId, attempt: u32) -> Key {
        let attempt = self.resume_state(job).join(attempt.to_string());
        attempt.join(INDEX)
    }

    pub(super) fn unknown_since(&self, job: JobId) -> Key {
        self.job(job).join(UNKNOWN_SINCE)
    }

    /// The job and the rest of a key below [`Self::jobs`]; `None` for what is not ours.
    pub(super) fn parse(&self, key: &Key) -> Option<(JobId, Vec<String>)> {
        let mut parts = key.prefix_match(&self.jobs())?;
        let job = parts.next()?.as_ref().parse().ok()?;
        Some((job, parts.map(|part| part.as_ref().to_owned()).collect()))
    }
}
