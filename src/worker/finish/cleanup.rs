//! Cleans up after a job that is over.
//!
//! A client may retry it at the same moment, and its next attempt works in the same directory. So the
//! directory is taken out of the way in one step, under the lock that the process of an attempt holds while it works,
//! and only if the job stands as it did. What cannot be removed now is for the sweep.

use std::fs;
use std::io;
use std::path::Path;

use crate::domain::JobId;
use crate::domain::job::Job;
use crate::domain::job::state::JobState;
use crate::scratch;
use crate::store::{JobStatus, StoreError};
use crate::worker::attempt::{discard, remove};
use crate::worker::context::Context;
use crate::worker::sweep::SweepError;

/// For the slot whose attempt has brought the job into this state.
pub(super) async fn clean_up(context: &Context, job: &Job, state: JobState) {
    let status = JobStatus {
        state,
        attempt: job.attempt,
    };
    match remove_scratch(context, job.id, Some(status), 1).await {
        Ok(true) => {
            let discarded = discard(context, job.id, job.attempt);
            // A bucket that is away keeps no worker from stopping.
            context.stop.run_until_cancelled(discarded).await;
        }
        Ok(false) => {
            tracing::info!(job.id = %job.id, "the job is not as it was, its scratch directory stays");
        }
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, job.id = %job.id, "cannot remove the scratch directory, the sweep will");
        }
    }
}

/// Removes the scratch directory of a job in this status; `false` where the status has changed, or where slots besides the
/// caller's `own` work on it.
pub(in crate::worker) async fn remove_scratch(
    context: &Context,
    id: JobId,
    status: Option<JobStatus>,
    own: usize,
) -> Result<bool, SweepError> {
    let directory = context.scratch(id);
    let lock = match directory.try_lock() {
        Ok(Some(lock)) => Some(lock),
        Ok(None) => return Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error.into()),
    };
    if !is_in_status(context, id, status).await? {
        return Ok(false);
    }
    if lock.is_none() {
        return Ok(true);
    }
    let aside = directory.removed();
    remove(&aside).await?;
    let moved = context
        .active
        .unless_others(id, own, || fs::rename(directory.path(), &aside));
    drop(lock);
    match moved {
        None => return Ok(false),
        Some(Err(error)) if error.kind() == io::ErrorKind::NotFound => {}
        Some(moved) => moved?,
    }
    remove(&aside).await?;
    Ok(true)
}

/// Whether the job is in this status now; `None` = the database does not know it.
pub(in crate::worker) async fn is_in_status(
    context: &Context,
    id: JobId,
    status: Option<JobStatus>,
) -> Result<bool, StoreError> {
    let statuses = context.parts.store.list_statuses(&[id]).await?;
    Ok(statuses.get(&id).copied() == status)
}

/// Finishes removals that were cut short.
pub(in crate::worker) async fn finish_removals(scratch_dir: &Path) -> io::Result<()> {
    for path in scratch::list(scratch_dir)?.1 {
        remove(&path).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::job::attempt_end::AttemptEnd;
    use crate::domain::job::failure::JobError;
    use crate::domain::job::state::Action;
    use crate::store::Lease;
    use crate::worker::fixture::{build_artifact, claimed, context};

    fn is_there(path: &Path) -> bool {
        path.try_exists().unwrap()
    }

    /// A job that has failed, with something in its scratch directory.
    async fn failed(context: &Context) -> Job {
        let job = claimed(context).await;
        build_artifact(context, &job);
        let end = AttemptEnd::Failed {
            error: JobError::crash(1, None, "gone".to_owned()),
            crashed: true,
        };
        let lease = Lease::of(&job).unwrap();
        let finished = context.parts.store.finish(&lease, &end, None).await;
        assert!(finished.unwrap().is_some());
        job
    }

    #[tokio::test]
    async fn what_is_tried_again_keeps_its_directory() {
        let home = tempfile::tempdir().unwrap();
        let context = context(home.path()).await;
        let job = failed(&context).await;
        let retried = context.parts.store.request(job.id, Action::Retry, None);
        assert!(retried.await.unwrap().is_some());
        clean_up(&context, &job, JobState::Failed).await;
        assert!(is_there(&context.scratch(job.id).artifact()));
    }

    #[tokio::test]
    async fn a_directory_goes_when_nobody_else_is_at_it() {
        let home = tempfile::tempdir().unwrap();
        let context = context(home.path()).await;
        let job = failed(&context).await;
        let scratch = context.scratch(job.id);
        let _own = context.active.begin(job.id);

        let process = scratch.try_lock().unwrap().unwrap();
        clean_up(&context, &job, JobState::Failed).await;
        assert!(is_there(&scratch.artifact()), "a process is at it");
        drop(process);
        let other = context.active.begin(job.id);
        clean_up(&context, &job, JobState::Failed).await;
        assert!(is_there(&scratch.artifact()), "a slot is at it");
        drop(other);
        clean_up(&context, &job, JobState::Failed).await;
        let left = fs::read_dir(&context.settings.scratch_dir).unwrap();
        assert_eq!(left.count(), 0);
    }

    #[tokio::test]
    async fn a_removal_that_was_cut_short_is_finished() {
        let home = tempfile::tempdir().unwrap();
        finish_removals(&home.path().join("nothing")).await.unwrap();
        let id = "job_019abcde0123789a8bcdef0123456789";
        for name in [
            format!("{id}.removed"),
            id.to_owned(),
            "x.removed".to_owned(),
        ] {
            fs::create_dir_all(home.path().join(name).join("artifact")).unwrap();
        }
        finish_removals(home.path()).await.unwrap();
        let exists = |name: &str| is_there(&home.path().join(name));
        assert!(exists(id) && exists("x.removed"));
        assert!(!exists(&format!("{id}.removed")));
    }
}
