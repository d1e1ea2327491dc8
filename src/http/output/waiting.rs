//! Delays answers until a job has changed (`Prefer: wait`).

use std::time::Duration;

use crate::domain::JobId;
use crate::domain::job::Job;
use crate::domain::job::event::Attempt;
use crate::http::HttpState;

/// Waits until the job matches or is gone; returns the wait that was granted.
///
/// It ends early when the server stops, and does not begin if too many clients wait. A client that disconnects ends its
/// handler and so its wait.
pub(in crate::http) async fn hold(
    state: &HttpState,
    job: Job,
    wait: Duration,
    is_as_wanted: impl Fn(&Job) -> bool + Send + Sync,
) -> Duration {
    let Ok(_permit) = state.held.try_acquire() else {
        return Duration::ZERO;
    };
    tokio::select! {
        () = state.jobs.wait(job, wait, is_as_wanted) => {}
        () = state.stopping.cancelled() => {}
    }
    wait
}

/// Waits for the end of a job; returns the wait that was granted, and the job as it is then.
///
/// A job that cannot be read by then was accepted all the same.
pub(in crate::http) async fn until_over(
    state: &HttpState,
    id: JobId,
    wait: Duration,
) -> (Duration, Option<(Job, Vec<Attempt>)>) {
    let Ok(job) = state.jobs.get(id).await else {
        return (Duration::ZERO, None);
    };
    let granted = hold(state, job, wait, |job| job.state.is_terminal()).await;
    (granted, state.jobs.get_with_attempts(id).await.ok())
}
