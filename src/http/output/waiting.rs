//! Answers that are held back until a job is worth looking at (`Prefer: wait`).

use std::time::Duration;

use crate::domain::JobId;
use crate::domain::job::Job;
use crate::domain::job::event::Attempt;
use crate::http::HttpState;

/// Waits until the job is as wanted or gone, the time is up, or the server stops; not at all where as many wait as may. Gives
/// the wait that was granted. Whoever disconnects is not waited for: the handler ends with the connection.
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

/// The wait that was granted, and the job, if it is over before the time is up. One that cannot be read by then has been
/// accepted all the same.
pub(in crate::http) async fn until_over(
    state: &HttpState,
    id: JobId,
    wait: Duration,
) -> (Duration, Option<(Job, Vec<Attempt>)>) {
    let Ok(job) = state.jobs.get(id).await else {
        return (Duration::ZERO, None);
    };
    let granted = hold(state, job, wait, |job| job.state.is_terminal()).await;
    let now = state.jobs.get_with_attempts(id).await.ok();
    (granted, now.filter(|(job, _)| job.state.is_terminal()))
}
