//! `/v1/workers`.

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::Serialize;

use crate::domain::JobId;
use crate::domain::worker::{Device, UsedBytes, Worker, WorkerStatus};
use crate::http::HttpState;
use crate::http::input::path::WorkerPath;
use crate::http::input::query::NoParameters;
use crate::http::output::problem::Problem;

/// A process that runs jobs.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Worker)]
pub(super) struct WorkerView {
    /// Always `worker`.
    object: &'static str,
    /// Another one for each process.
    id: String,
    /// The machine's name.
    host: String,
    /// The version of its program.
    version: String,
    /// How it stands: the first that is true of lost, draining, busy, idle.
    status: WorkerStatus,
    /// Whether it claims nothing more.
    draining: bool,
    /// What it computes on; each runs one job at a time.
    devices: Vec<Device>,
    /// Bytes of memory that its jobs can have together; `null` where that is not known.
    memory_bytes: Option<u64>,
    /// Bytes that were free on its disk at its last heartbeat; `null` where that is not known.
    free_disk_bytes: Option<u64>,
    /// Bytes that its machine holds for jobs; `null` until that was measured, and then every few minutes.
    used_bytes: Option<UsedBytes>,
    /// The jobs that it holds, oldest first.
    #[schema(value_type = Vec<String>)]
    jobs: Vec<JobId>,
    /// Time of its registration.
    #[schema(value_type = String, format = DateTime)]
    started_at: Timestamp,
    /// Time of its last heartbeat.
    #[schema(value_type = String, format = DateTime)]
    seen_at: Timestamp,
}

/// Every worker that is known.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct WorkerList {
    /// Always `list`.
    object: &'static str,
    /// Longest known first.
    data: Vec<WorkerView>,
}

/// What jobs take of the disks.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Storage)]
pub(super) struct StorageView {
    /// Always `storage`.
    object: &'static str,
    /// Bytes of all artifacts.
    artifact_bytes: u64,
    /// What each worker's machine holds. Workers on one machine share its cache of the hub, those of one home all of it.
    workers: Vec<MachineStorage>,
}

/// What the machine of a worker holds for jobs.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct MachineStorage {
    /// The worker.
    worker_id: String,
    /// The machine's name.
    host: String,
    /// Bytes that it holds for jobs; `null` until that was measured.
    used_bytes: Option<UsedBytes>,
    /// Bytes that were free on its disk at its last heartbeat; `null` where that is not known.
    free_disk_bytes: Option<u64>,
}

impl From<Worker> for MachineStorage {
    fn from(worker: Worker) -> Self {
        Self {
            worker_id: worker.profile.id,
            host: worker.profile.host,
            used_bytes: worker.profile.used_bytes,
            free_disk_bytes: worker.profile.free_disk_bytes,
        }
    }
}

impl From<Worker> for WorkerView {
    fn from(worker: Worker) -> Self {
        Self {
            object: "worker",
            status: worker.status(),
            id: worker.profile.id,
            host: worker.profile.host,
            version: worker.profile.version,
            draining: worker.draining,
            devices: worker.profile.devices,
            memory_bytes: worker.profile.memory_bytes,
            free_disk_bytes: worker.profile.free_disk_bytes,
            used_bytes: worker.profile.used_bytes,
            jobs: worker.jobs,
            started_at: worker.started_at,
            seen_at: worker.seen_at,
        }
    }
}

/// List the workers
///
/// A stopped worker is not listed any more. One without a heartbeat for the length of a lease is `lost`, and
/// removed an hour later.
#[utoipa::path(
    get, path = "/workers", tag = "workers",
    responses((status = 200, description = "All of them", body = WorkerList))
)]
pub(super) async fn list_workers(
    _: NoParameters,
    State(state): State<HttpState>,
) -> Result<Json<WorkerList>, Problem> {
    let workers = state.jobs.workers().await?;
    Ok(Json(WorkerList {
        object: "list",
        data: workers.into_iter().map(WorkerView::from).collect(),
    }))
}

/// Ask what jobs take of the disks
///
/// By kind: artifacts, jobs in progress, kept scores, and the cache of the hub.
#[utoipa::path(
    get, path = "/storage", tag = "workers",
    responses((status = 200, description = "Bytes by kind", body = StorageView))
)]
pub(super) async fn get_storage(
    _: NoParameters,
    State(state): State<HttpState>,
) -> Result<Json<StorageView>, Problem> {
    let workers = state.jobs.workers().await?.into_iter();
    Ok(Json(StorageView {
        object: "storage",
        artifact_bytes: state.jobs.artifact_bytes().await?,
        workers: workers.map(MachineStorage::from).collect(),
    }))
}

/// Drain a worker
///
/// It finishes the jobs that it has and claims nothing more, from the moment of this answer. Repeating it is harmless.
#[utoipa::path(
    post, path = "/workers/{id}/drain", tag = "workers",
    params(("id" = String, Path, description = "The worker")),
    responses(
        (status = 200, description = "The worker", body = WorkerView),
        (status = 403, description = "`cross_origin`"),
        (status = 404, description = "`worker_not_found`"),
    )
)]
pub(super) async fn drain_worker(
    _: NoParameters,
    State(state): State<HttpState>,
    WorkerPath(id): WorkerPath,
) -> Result<Json<WorkerView>, Problem> {
    Ok(Json(state.jobs.set_draining(&id, true).await?.into()))
}

/// Let a drained worker claim again
///
/// Repeating it is harmless.
#[utoipa::path(
    post, path = "/workers/{id}/undrain", tag = "workers",
    params(("id" = String, Path, description = "The worker")),
    responses(
        (status = 200, description = "The worker", body = WorkerView),
        (status = 403, description = "`cross_origin`"),
        (status = 404, description = "`worker_not_found`"),
    )
)]
pub(super) async fn undrain_worker(
    _: NoParameters,
    State(state): State<HttpState>,
    WorkerPath(id): WorkerPath,
) -> Result<Json<WorkerView>, Problem> {
    Ok(Json(state.jobs.set_draining(&id, false).await?.into()))
}
