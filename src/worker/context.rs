//! What every task of the pool shares.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::attempt::ActiveJobs;
use super::lock_file::WorkerLock;
use super::{WorkerParts, WorkerSettings};
use crate::artifacts::ArtifactError;
use crate::domain::attempt::Outage;
use crate::domain::job::Job;
use crate::domain::job::attempt_end::{AttemptEnd, Lacks};
use crate::domain::job::failure::{AttemptFailure, JobError};
use crate::domain::job::progress::Phase;
use crate::domain::job::retry::{Budget, RetryPolicy};
use crate::domain::worker::{UsedBytes, WorkerProfile};
use crate::domain::{ErrorCode, JobId};
use crate::machine;
use crate::scratch::ScratchDir;
use crate::store::StoreError;

/// The longest pause between two tries of a bucket or a database that is away.
pub(super) const OUTAGE_POLL: Duration = Duration::from_secs(5);

/// The settings, the parts and the state of one pool.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) settings: WorkerSettings,
    pub(super) parts: WorkerParts,
    pub(super) lock: WorkerLock,
    /// What the worker tells the database about itself.
    pub(super) profile: WorkerProfile,
    pub(super) active: Arc<ActiveJobs>,
    /// What was measured last.
    used: Mutex<Option<UsedBytes>>,
    pub(super) stop: CancellationToken,
}

impl Context {
    pub(super) fn new(
        settings: WorkerSettings,
        parts: WorkerParts,
        lock: WorkerLock,
    ) -> Result<Self, String> {
        let profile = WorkerProfile::new(
            lock.worker_id().to_owned(),
            machine::host_name(),
            &settings.pool.devices,
            settings.pool.memory_bytes,
        )?;
        Ok(Self {
            settings,
            parts,
            lock,
            profile,
            active: Arc::default(),
            used: Mutex::default(),
            stop: CancellationToken::new(),
        })
    }

    pub(super) fn worker_id(&self) -> &str {
        self.lock.worker_id()
    }

    pub(super) fn now(&self) -> Timestamp {
        self.parts.clock.now()
    }

    pub(super) fn scratch(&self, id: JobId) -> ScratchDir {
        ScratchDir::of(&self.settings.scratch_dir, id)
    }

    /// The end of an attempt that failed and said why.
    pub(super) fn failed_end(&self, job: &Job, failure: AttemptFailure) -> AttemptEnd {
        let attempt = job.attempt;
        self.end_with(job, JobError { failure, attempt }, false)
    }

    /// The end of an attempt whose process ended without saying why.
    pub(super) fn crashed_end(
        &self,
        job: &Job,
        phase: Option<Phase>,
        message: String,
    ) -> AttemptEnd {
        self.end_with(job, JobError::crash(job.attempt, phase, message), true)
    }

    /// The end of an attempt that was running at the job's deadline.
    pub(super) fn overdue_end(&self, job: &Job, phase: Option<Phase>) -> AttemptEnd {
        let message = "the job was running at its deadline".to_owned();
        let failure = AttemptFailure::new(ErrorCode::DeadlineExceeded, message, phase);
        self.failed_end(job, failure)
    }

    /// The end of an attempt that waits for something outside of its job.
    pub(super) fn waiting_end(
        &self,
        job: &Job,
        failure: AttemptFailure,
        outage: Outage,
    ) -> AttemptEnd {
        let attempt = job.attempt;
        let mut lacks = Lacks::default();
        match outage {
            Outage::Hub => {}
            Outage::Disk(bytes) => lacks.disk_bytes = Some(bytes),
            Outage::Memory(bytes) => lacks.memory_bytes = Some(bytes),
        }
        self.retry_policy()
            .wait(JobError { failure, attempt }, lacks)
    }

    fn end_with(&self, job: &Job, error: JobError, crashed: bool) -> AttemptEnd {
        self.retry_policy().end(error, crashed, Budget::of(job))
    }

    fn retry_policy(&self) -> RetryPolicy {
        RetryPolicy {
            first_delay: self.settings.pool.retry_seconds,
        }
    }

    /// Bytes of memory that an attempt on the device may take.
    pub(super) fn memory_bytes(&self, device: &str) -> Option<u64> {
        let mut devices = self.profile.devices.iter();
        let found = devices.find(|known| known.name == device);
        found.and_then(|device| device.memory_bytes)
    }

    /// Bytes that are free for scratch directories; `None` where the system does not tell.
    pub(super) fn free_disk_bytes(&self) -> Option<u64> {
        machine::free_bytes(&self.settings.scratch_dir).ok()
    }

    /// Notes what the machine holds for jobs.
    pub(super) fn set_used(&self, used: UsedBytes) {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Some(used);
    }

    /// Tells the database that the worker lives, and what it has.
    pub(super) async fn announce(&self) -> Result<bool, StoreError> {
        let profile = WorkerProfile {
            free_disk_bytes: self.free_disk_bytes(),
            used_bytes: *self.used.lock().unwrap_or_else(PoisonError::into_inner),
            ..self.profile.clone()
        };
        let lease = self.settings.pool.lease_seconds;
        self.parts.store.announce_worker(&profile, lease).await
    }

    /// Waits for a bucket that is away, as for a database: another attempt would fail in the same way.
    pub(super) async fn wait_for_bucket(&self, error: &ArtifactError) {
        tracing::warn!(
            error = error as &dyn std::error::Error,
            "the bucket is away, waiting for it"
        );
        tokio::time::sleep(self.settings.pool.retry_seconds.min(OUTAGE_POLL)).await;
    }

    /// Waits, but not past the pool's end.
    pub(super) async fn pause(&self, duration: Duration) {
        tokio::select! {
            () = tokio::time::sleep(duration) => {}
            () = self.stop.cancelled() => {}
        }
    }
}
