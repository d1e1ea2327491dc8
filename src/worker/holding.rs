//! Work of the worker itself for an attempt, while no process runs.

use tokio::time::Instant;

use super::Context;
use super::supervise::{Ended, LOOK_EVERY, RENEW_AGAIN, every, until};
use crate::domain::attempt::Phase;
use crate::store::{Held, Lease, StoreError};

/// When work is over however far it is, and what is said of it then.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    pub(super) deadline: Option<Instant>,
    pub(super) phase: Option<Phase>,
}

/// Does `work` under a lease that is renewed meanwhile; drops it where the attempt shall end.
pub(super) async fn while_held<T>(
    context: &Context,
    lease: &Lease,
    limit: Limit,
    work: impl Future<Output = T>,
) -> Result<T, Ended> {
    let store = &context.parts.store;
    let mut heartbeat = every(context.settings.heartbeat);
    let mut look = every(LOOK_EVERY);
    tokio::pin!(work);
    loop {
        let held = tokio::select! {
            // What is done counts, whatever is asked at the same moment.
            biased;
            done = &mut work => return Ok(done),
            () = until(limit.deadline) => return Err(Ended::Overdue { phase: limit.phase }),
            () = context.stop.cancelled() => return Err(Ended::Stopped),
            _ = heartbeat.tick() => {
                let renewed = store.heartbeat(lease, context.settings.lease).await;
                if renewed.is_err() {
                    metrics::counter!("secateur_heartbeat_errors_total").increment(1);
                    heartbeat.reset_after(RENEW_AGAIN.min(heartbeat.period()));
                }
                renewed
            }
            _ = look.tick() => store.check_lease(lease).await,
        };
        if let Some(ended) = end(held) {
            return Err(ended);
        }
    }
}

/// A database that does not answer is no reason to stop.
fn end(held: Result<Held, StoreError>) -> Option<Ended> {
    match held {
        Ok(Held::Yes) => None,
        Ok(Held::PauseRequested) => Some(Ended::Paused),
        Ok(Held::CancelRequested) => Some(Ended::Cancelled),
        Ok(Held::Lost) => Some(Ended::Lost),
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "cannot look up the lease");
            None
        }
    }
}
