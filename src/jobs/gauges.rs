//! Metrics that are measured on request.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Error, Jobs};
use crate::domain::job::scheduling::DeviceKind;
use crate::domain::queue::ClusterState;
use crate::instruments;
use crate::machine;

/// How long a process that is not asked any more keeps the gauges of the database: longer than collectors pause.
const GAUGES_LEASE: Duration = Duration::from_secs(90);

impl Jobs {
    /// Whether this process is the one that exports the gauges of the database.
    pub async fn exports_shared_gauges(&self) -> bool {
        let taken = self.parts.store.take_gauges(&self.process, GAUGES_LEASE);
        taken.await.unwrap_or_else(|error| {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(
                error,
                "cannot find out who exports the gauges of the database"
            );
            false
        })
    }

    /// Leaves them to another process.
    pub async fn leave_shared_gauges(&self) {
        if let Err(error) = self.parts.store.release_gauges(&self.process).await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "cannot leave the gauges of the database to others");
        }
    }

    /// Sets the gauges of the database, which one process exports.
    pub async fn set_shared_gauges(&self) {
        if let Err(error) = self.measure_jobs().await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "cannot measure the queue");
        }
    }

    /// Sets the gauges of this process and its machine. One that cannot be measured keeps its last value.
    pub fn set_own_gauges(&self) {
        for (name, directory) in &self.parts.directories {
            match machine::free_bytes(directory) {
                Ok(free) => {
                    metrics::gauge!(instruments::STORE_FREE_BYTES, "store" => *name)
                        .set(free as f64);
                }
                Err(error) => tracing::warn!(%error, name, "cannot measure the free space"),
            }
        }
        let pool = self.parts.store.pool_use();
        for (state, connections) in [("idle", pool.idle), ("busy", pool.busy)] {
            metrics::gauge!(instruments::DB_POOL_CONNECTIONS, "state" => state)
                .set(f64::from(connections));
        }
    }

    async fn measure_jobs(&self) -> Result<(), Error> {
        for (state, count) in self.counts().await? {
            metrics::gauge!(instruments::JOBS, "status" => state.as_str()).set(count as f64);
        }
        let bytes = self.parts.store.sum_artifact_bytes().await?;
        metrics::gauge!(instruments::ARTIFACT_STORE_BYTES).set(bytes as f64);
        let (cluster, content) = self.queue().await?;
        let oldest = content.oldest_age_seconds(cluster.now);
        metrics::gauge!(instruments::QUEUE_OLDEST_AGE_SECONDS).set(oldest.unwrap_or_default());
        metrics::gauge!(instruments::WORKER_HEARTBEAT_AGE_SECONDS).set(heartbeat_age(&cluster));
        for (kind, bytes) in memory(&cluster) {
            metrics::gauge!(instruments::DEVICE_MEMORY_BYTES, "kind" => kind).set(bytes as f64);
        }
        Ok(())
    }
}

/// Of the worker that has been silent for longest, lost ones included; 0 without any.
fn heartbeat_age(cluster: &ClusterState) -> f64 {
    let seen = cluster.workers.iter().map(|worker| worker.seen_at).min();
    seen.map_or(0.0, |seen| {
        cluster.now.duration_since(seen).as_secs_f64().max(0.0)
    })
}

/// By kind of device, of all workers that are alive. Devices of one kind in one worker share their memory.
fn memory(cluster: &ClusterState) -> BTreeMap<&'static str, u64> {
    let mut memory =
        BTreeMap::from([DeviceKind::Cpu, DeviceKind::Cuda].map(|kind| (kind.as_str(), 0)));
    for worker in cluster.workers.iter().filter(|worker| !worker.is_lost) {
        for (word, sum) in &mut memory {
            let devices = worker.profile.devices.iter();
            let of_kind = devices.filter(|device| device.kind.as_str() == *word);
            *sum += of_kind
                .filter_map(|device| device.memory_bytes)
                .max()
                .unwrap_or_default();
        }
    }
    memory
}
