//! Passes changes that the database notifies of on to the slots.

use std::sync::Arc;

use futures::StreamExt as _;

use super::context::Context;
use crate::store::Change;

/// Runs until the pool stops, or the database has no notifications.
pub(super) async fn run(context: Arc<Context>) {
    let mut changes = context.parts.store.changes();
    while let Some(Some(change)) = context.stop.run_until_cancelled(changes.next()).await {
        match change {
            // Who takes one job wakes the next slot.
            Change::Queued | Change::Missed => context.parts.wake.notify_one(),
            // No slot listens where the job is another worker's.
            Change::Asked(id) => drop(context.parts.asked.send(id)),
            Change::Logged => {}
        }
    }
}
