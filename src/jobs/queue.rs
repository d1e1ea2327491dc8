//! Reads and steers the queue and the workers.

use super::{Error, Jobs};
use crate::domain::job::Job;
use crate::domain::job::state::JobState;
use crate::domain::queue::places::Places;
use crate::domain::queue::{ClusterState, QueueContent};
use crate::domain::worker::Worker;

/// Submitters that are listed one by one.
const SUBMITTERS: u32 = 100;

impl Jobs {
    /// Every known worker, oldest first.
    pub async fn workers(&self) -> Result<Vec<Worker>, Error> {
        Ok(self.parts.store.cluster_state().await?.workers)
    }

    /// Drains a worker, or lets it claim again. Idempotent.
    pub async fn set_draining(&self, id: &str, draining: bool) -> Result<Worker, Error> {
        let not_found = || Error::WorkerNotFound(id.to_owned());
        // No id has this character, and PostgreSQL takes no text that has it.
        if id.contains('\0') || !self.parts.store.set_draining(id, draining).await? {
            return Err(not_found());
        }
        tracing::info!(worker.id = id, draining, "draining of the worker changed");
        if !draining {
            self.parts.signals.wake.notify_one();
        }
        let mut workers = self.workers().await?.into_iter();
        workers
            .find(|worker| worker.profile.id == id)
            .ok_or_else(not_found)
    }

    /// The queue: what waits, and why.
    pub async fn queue(&self) -> Result<(ClusterState, QueueContent), Error> {
        Ok(self.parts.store.queue_overview(SUBMITTERS).await?)
    }

    /// Pauses or resumes the queue. Idempotent.
    pub async fn set_paused(&self, paused: bool) -> Result<(ClusterState, QueueContent), Error> {
        self.parts.store.set_paused(paused).await?;
        tracing::info!(paused, "pausing of the queue changed");
        if !paused {
            self.parts.signals.wake.notify_one();
        }
        self.queue().await
    }

    /// What decides who may start. `None` where that could not be found out: an answer about jobs does not fail for want
    /// of it.
    pub async fn cluster_state(&self) -> Option<ClusterState> {
        let found = self.parts.store.cluster_state().await;
        found.map_err(|error| warn(&error)).ok()
    }

    /// The same, if any of these jobs waits for it.
    pub async fn cluster_state_of(&self, jobs: &[Job]) -> Option<ClusterState> {
        if jobs.iter().any(|job| job.state == JobState::Queued) {
            self.cluster_state().await
        } else {
            None
        }
    }

    /// What is known of the time that jobs take, for one that has no place yet.
    pub async fn pace(&self) -> Places {
        let recent = self.parts.store.recent_runs().await;
        let recent = recent.map_err(|error| warn(&error)).unwrap_or_default();
        Places {
            recent,
            ..Places::default()
        }
    }

    /// Where those of these jobs are that wait. Empty where that could not be found out.
    pub async fn places(&self, jobs: &[Job]) -> Places {
        let waiting = jobs.iter().filter(|job| job.state == JobState::Queued);
        let waiting: Vec<_> = waiting.map(|job| job.id).collect();
        if waiting.is_empty() {
            return Places::default();
        }
        let places = self.parts.store.places(&waiting).await;
        places.map_err(|error| warn(&error)).unwrap_or_default()
    }
}

fn warn(error: &(dyn std::error::Error + 'static)) {
    tracing::warn!(error, "cannot find out what a queued job waits for");
}
