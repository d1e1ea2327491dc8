//! Tells the others that this worker lives, also while it has nothing to do.

use std::sync::Arc;
use std::time::Duration;

use super::Context;

/// Again and again until the pool stops. Before its first word the worker is not listed, and works all the same.
pub(super) async fn run(context: Arc<Context>) {
    let mut was_draining = false;
    while !context.stop.is_cancelled() {
        if let Some(draining) = announce(&context).await {
            if draining && !was_draining {
                tracing::info!(
                    worker.id = context.worker_id(),
                    "worker drains, it claims nothing more"
                );
            } else if was_draining && !draining {
                tracing::info!(worker.id = context.worker_id(), "worker claims again");
            }
            was_draining = draining;
        }
        context.pause(context.settings.heartbeat).await;
    }
}

/// One word; `None` where the database did not take it.
async fn announce(context: &Context) -> Option<bool> {
    let announced = context
        .parts
        .store
        .announce_worker(&context.profile, context.settings.lease)
        .await;
    match announced {
        Ok(draining) => Some(draining),
        Err(error) => {
            metrics::counter!("secateur_heartbeat_errors_total").increment(1);
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

/// For a worker that stopped. It counts as lost in a while where this does not work.
pub(super) async fn dismiss(context: &Context) {
    /// A stop does not wait longer for a database that is away.
    const PATIENCE: Duration = Duration::from_secs(2);
    let dismissed = context.parts.store.dismiss_worker(context.worker_id());
    match tokio::time::timeout(PATIENCE, dismissed).await {
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
