//! Registers the worker in the database and keeps it there while it lives.

use std::sync::Arc;
use std::time::Duration;

use super::context::Context;
use crate::instruments;

/// Repeats the registration until the pool stops. Without one the worker is not listed, but works all the same.
pub(super) async fn run(context: Arc<Context>) {
    let mut was_draining = false;
    while !context.stop.is_cancelled() {
        if let Some(draining) = register(&context).await {
            if draining && !was_draining {
                tracing::info!(
                    worker.id = context.worker_id(),
                    "worker is draining, it claims no more jobs"
                );
            } else if was_draining && !draining {
                tracing::info!(worker.id = context.worker_id(), "worker claims again");
            }
            was_draining = draining;
        }
        context.pause(context.settings.pool.heartbeat_seconds).await;
    }
}

/// Registers once and says whether the worker is draining; `None` where the database is away.
async fn register(context: &Context) -> Option<bool> {
    match context.announce().await {
        Ok(draining) => Some(draining),
        Err(error) => {
            metrics::counter!(instruments::HEARTBEAT_ERRORS).increment(1);
            let error = &error as &dyn std::error::Error;
            tracing::warn!(
                error,
                worker.id = context.worker_id(),
                "cannot announce the worker"
            );
            None
        }
    }
}

/// Removes a worker that stopped. Where this fails it counts as lost after a while.
pub(super) async fn remove(context: &Context) {
    /// A stop does not wait longer for a database that is away.
    const TIMEOUT: Duration = Duration::from_secs(2);
    let dismissed = context.parts.store.dismiss_worker(context.worker_id());
    match tokio::time::timeout(TIMEOUT, dismissed).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(
                error,
                worker.id = context.worker_id(),
                "cannot dismiss the worker"
            );
        }
        Err(_elapsed) => {
            tracing::warn!(
                worker.id = context.worker_id(),
                "cannot dismiss the worker, the database does not answer"
            );
        }
    }
}
