//! Whether the disk and the queue have capacity for one more job.

use super::{Error, Jobs};
use crate::domain::JobId;
use crate::domain::job::state::{Action, JobState};
use crate::machine;

/// Below this the database may fail to take a job.
pub(super) const MIN_FREE_BYTES: u64 = 16 << 20;

/// Why no job is taken now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// Of a file system that jobs are written to.
    #[error("the server has too little free disk space to take a job")]
    Disk,
    /// The queue is full.
    #[error("{0} jobs wait already, and no more are taken before some of them run")]
    Queue(u32),
}

impl Jobs {
    /// Checks the capacity before a job is queued again; the store checks the rest.
    pub(super) async fn check_room_to_queue(&self, id: JobId, action: Action) -> Result<(), Error> {
        if !matches!(action, Action::Retry | Action::Resume) {
            return Ok(());
        }
        let statuses = self.parts.store.list_statuses(&[id]).await?;
        let state = statuses.get(&id).map(|status| status.state);
        match state.filter(|state| *state != JobState::Queued) {
            Some(state) if action.after(state) == Some(JobState::Queued) => self.check_room().await,
            _ => Ok(()),
        }
    }

    /// Checks the capacity before a job is queued.
    pub(super) async fn check_room(&self) -> Result<(), Error> {
        for directory in self.parts.directories.values() {
            // Readiness reports a directory that cannot be read.
            if machine::free_bytes(directory).is_ok_and(|free| free < MIN_FREE_BYTES) {
                return Err(Error::Full(Full::Disk));
            }
        }
        let most = self.parts.most_queued;
        if self.parts.store.count_queued(most).await? >= most {
            return Err(Error::Full(Full::Queue(most)));
        }
        Ok(())
    }
}
