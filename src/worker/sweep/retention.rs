//! Files that are kept for a while though no worker needs them.
//!
//! Those of jobs that the database does not know: most likely it is the wrong database, lost, restored, or another one by
//! mistake. So a mark is put beside the files when that is first seen, and they are removed only when it has stood there
//! for long.
//!
//! And those of jobs that failed for a reason that may pass: a retry by hand goes on where such a job was. And those of
//! paused jobs, but not for longer than a job that is over is retained.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;

use crate::domain::JobId;
use crate::domain::job::retry::keeps_resume_state;
use crate::domain::job::state::JobState;
use crate::store::StoreError;
use crate::worker::context::Context;

/// Its time is when the job was first found to be unknown.
const MARK: &str = "unknown-since";

/// How long the files of an unknown job are kept.
pub(in crate::worker) const RETENTION: Duration = Duration::from_hours(7 * 24);

/// Whether the job whose directory this is has been unknown for longer than [`RETENTION`]. The first call sets the mark.
pub(in crate::worker) fn is_over(directory: &Path, now: Timestamp) -> io::Result<bool> {
    let mark = directory.join(MARK);
    match fs::metadata(&mark) {
        Ok(metadata) => {
            let since = Timestamp::try_from(metadata.modified()?).map_err(io::Error::other)?;
            Ok(is_past(since, now))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            File::create(mark)?;
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Whether what began then has lasted for longer than [`RETENTION`].
pub(in crate::worker) fn is_past(since: Timestamp, now: Timestamp) -> bool {
    Duration::try_from(now.duration_since(since)).is_ok_and(|age| age > RETENTION)
}

/// Takes the mark away: the job is known, or its files are gone.
pub(in crate::worker) fn end(directory: &Path) -> io::Result<()> {
    match fs::remove_file(directory.join(MARK)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Whether the files of a job that is over are kept for a retry by hand.
pub(in crate::worker) async fn awaits_retry(
    context: &Context,
    id: JobId,
) -> Result<bool, StoreError> {
    match context.parts.store.lookup_job(id).await {
        Ok(job) => Ok(job.is_some_and(|job| keeps_resume_state(&job, context.now()))),
        // One that this version cannot read must not keep the files of the others.
        Err(StoreError::Inconsistent { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether an attempt may go on from the files of a job in this state.
pub(in crate::worker) async fn may_go_on(
    context: &Context,
    id: JobId,
    state: JobState,
) -> Result<bool, StoreError> {
    match state {
        JobState::Paused => is_paused_lately(context, id).await,
        state if state.is_terminal() => awaits_retry(context, id).await,
        _ => Ok(true),
    }
}

/// Whether a paused job is kept, or not paused for longer than one that is over is retained.
async fn is_paused_lately(context: &Context, id: JobId) -> Result<bool, StoreError> {
    let Some(retention) = context.settings.retention else {
        return Ok(true);
    };
    let job = match context.parts.store.lookup_job(id).await {
        Ok(job) => job,
        Err(StoreError::Inconsistent { .. }) => None,
        Err(error) => return Err(error),
    };
    Ok(job.is_some_and(|job| job.kept || context.now() < job.updated_at + retention))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, SystemClock};
    use crate::domain::job::attempt_end::AttemptEnd;
    use crate::domain::job::failure::JobError;
    use crate::domain::job::retry::RETENTION as RETRY_RETENTION;
    use crate::store::Lease;
    use crate::worker::fixture::{claimed, context};

    #[tokio::test]
    async fn what_failed_may_be_tried_again_for_a_day() {
        let home = tempfile::tempdir().unwrap();
        let context = context(home.path()).await;
        let job = claimed(&context).await;
        assert!(!awaits_retry(&context, job.id).await.unwrap(), "running");
        let end = AttemptEnd::Failed {
            error: JobError::crash(1, None, "gone".to_owned()),
            crashed: true,
        };
        let lease = Lease::of(&job).unwrap();
        let finished = context.parts.store.finish(&lease, &end, None);
        assert!(finished.await.unwrap().is_some());
        assert!(awaits_retry(&context, job.id).await.unwrap());
        let job = context
            .parts
            .store
            .lookup_job(job.id)
            .await
            .unwrap()
            .unwrap();
        let ended = job.finished_at.unwrap();
        assert!(!keeps_resume_state(&job, ended + RETRY_RETENTION));
        let mut refused = job;
        if let Some(error) = &mut refused.error {
            error.failure.retryable = false;
        }
        assert!(!keeps_resume_state(&refused, ended));
    }

    #[test]
    fn the_grace_begins_when_a_job_is_first_unknown_and_again_after_it_was_known() {
        let directory = tempfile::tempdir().unwrap();
        let now = SystemClock.now();
        let late = now + RETENTION + Duration::from_mins(1);
        assert!(!is_over(directory.path(), late).unwrap(), "first seen");
        assert!(!is_over(directory.path(), now).unwrap());
        assert!(is_over(directory.path(), late).unwrap());
        end(directory.path()).unwrap();
        end(directory.path()).unwrap();
        assert!(!is_over(directory.path(), late).unwrap(), "seen anew");
    }
}
