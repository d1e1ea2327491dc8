//! What every task of the pool shares.

use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::attempt::ActiveJobs;
use super::lock_file::WorkerLock;
use super::{WorkerParts, WorkerSettings};
use crate::artifacts::ArtifactError;
use crate::domain::JobId;
use crate::domain::worker::WorkerProfile;
use crate::machine;

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
            &settings.devices,
            settings.memory_bytes,
        )?;
        Ok(Self {
            settings,
            parts,
            lock,
            profile,
            active: Arc::default(),
            stop: CancellationToken::new(),
        })
    }

    pub(super) fn worker_id(&self) -> &str {
        self.lock.worker_id()
    }

    pub(super) fn now(&self) -> Timestamp {
        self.parts.clock.now()
    }

    pub(super) fn scratch(&self, id: JobId) -> PathBuf {
        self.settings.scratch_dir.join(id.to_string())
    }

    /// Waits for a bucket that is away, as for a database: another attempt would fail in the same way.
    pub(super) async fn wait_for_bucket(&self, error: &ArtifactError) {
        tracing::warn!(
            error = error as &dyn std::error::Error,
            "the bucket is away, waiting for it"
        );
        tokio::time::sleep(self.settings.retry_delay.min(OUTAGE_POLL)).await;
    }

    /// Waits, but not past the pool's end.
    pub(super) async fn pause(&self, duration: Duration) {
        tokio::select! {
            () = tokio::time::sleep(duration) => {}
            () = self.stop.cancelled() => {}
        }
    }
}

/// Between three quarters and five quarters of `duration`, so that many workers do not move in step.
pub(super) fn jittered(duration: Duration) -> Duration {
    let random = u32::try_from(RandomState::new().hash_one(()) >> 32).unwrap_or_default();
    duration.mul_f64(0.75 + 0.5 * f64::from(random) / f64::from(u32::MAX))
}
