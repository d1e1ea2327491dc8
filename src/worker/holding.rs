//! Work of the worker itself for an attempt, while no process runs.

use tokio::time::{Instant, MissedTickBehavior};

use super::Context;
use super::supervise::{Ended, LOOK_EVERY};
use crate::store::{Held, Lease, StoreError};

/// Does `work` under a lease that is renewed meanwhile; drops it where the attempt shall end.
pub(super) async fn while_held<T>(
    context: &Context,
    lease: &Lease,
    work: impl Future<Output = T>,
) -> Result<T, Ended> {
    let store = &context.parts.store;
    let every = |period| {
        let mut interval = tokio::time::interval_at(Instant::now() + period, period);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        interval
    };
    let mut heartbeat = every(context.settings.heartbeat);
    let mut look = every(LOOK_EVERY);
    tokio::pin!(work);
    loop {
        let held = tokio::select! {
            done = &mut work => return Ok(done),
            _ = heartbeat.tick() => store.heartbeat(lease, context.settings.lease).await,
            _ = look.tick() => store.check_lease(lease).await,
            () = context.stop.cancelled() => return Err(Ended::Stopped),
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
