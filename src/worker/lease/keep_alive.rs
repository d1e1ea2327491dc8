//! Keeps a lease alive while the worker itself works for an attempt, without a process.

use tokio::time::Instant;

use super::client::LeaseClient;
use super::{CHECK_INTERVAL, every, log_failed_call, until};
use crate::domain::job::Job;
use crate::domain::job::attempt_end::AttemptEnd;
use crate::domain::job::progress::Phase;
use crate::store::{Lease, LeaseCheck};
use crate::worker::context::Context;

/// When the work must be over, and the phase that an error names then.
#[derive(Debug, Clone, Copy)]
pub(in crate::worker) struct Limit {
    pub(in crate::worker) deadline: Option<Instant>,
    pub(in crate::worker) phase: Option<Phase>,
}

/// Runs `work` while it renews the lease; drops it where the attempt must end. A slow database does not stop it.
pub(in crate::worker) async fn while_leased<T>(
    context: &Context,
    job: &Job,
    limit: Limit,
    work: impl Future<Output = T>,
) -> Result<T, AttemptEnd> {
    let lease = Lease::of(job).ok_or(AttemptEnd::Lost)?;
    let mut client = LeaseClient::new(context, lease);
    let mut heartbeat = every(context.settings.pool.heartbeat_seconds);
    let mut check = every(CHECK_INTERVAL);
    tokio::pin!(work);
    loop {
        tokio::select! {
            // What is done counts, whatever is asked at the same moment.
            biased;
            done = &mut work => return Ok(done),
            () = until(limit.deadline) => return Err(context.overdue_end(job, limit.phase)),
            () = context.stop.cancelled() => return Err(AttemptEnd::Released),
            (call, answer) = client.answer() => match answer {
                Ok(check) => {
                    if let Some(end) = end(check) {
                        return Err(end);
                    }
                }
                Err(error) => log_failed_call(call, &error, &mut heartbeat),
            },
            _ = heartbeat.tick() => client.renew(),
            _ = check.tick() => client.check(),
        }
    }
}

fn end(check: LeaseCheck) -> Option<AttemptEnd> {
    match check {
        LeaseCheck::Valid => None,
        LeaseCheck::PauseRequested => Some(AttemptEnd::Paused),
        LeaseCheck::CancelRequested => Some(AttemptEnd::Cancelled),
        LeaseCheck::Lost => Some(AttemptEnd::Lost),
    }
}
