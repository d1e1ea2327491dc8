//! The pool: one slot per device, each of which claims a job, supervises the process that runs it, and writes down
//! how that ended.
//!
//! A worker computes nothing itself: cancelling, stopping and crashing are all the end of another process. What it
//! shares with the HTTP side is the database and two shortcuts, a wake-up and the word that something is asked, which come
//! from within the process or, on PostgreSQL, from the database. Without those it looks for work every two seconds and
//! for what is asked every second.

mod active;
mod announce;
mod calls;
mod checkpoints;
mod child;
mod clearing;
#[cfg(test)]
mod fixture;
mod grace;
mod holding;
mod presence;
mod publish;
mod reap;
mod record;
mod relay;
mod sources;
mod supervise;
mod suspects;
mod sweep;

use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Notify, broadcast};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::artifacts::{ArtifactError, Artifacts};
use crate::clock::Clock;
use crate::domain::job::{Job, JobId};
use crate::domain::worker::{Device, WorkerProfile};
use crate::machine;
use crate::store::{Claim, Store, StoreError};
use active::{Active, ActiveJobs};
use presence::Presence;
use reap::Reaper;
use sweep::Sweeper;

/// How often an idle slot looks for work that nobody told it of, and every slot after a failed look.
const POLL: Duration = Duration::from_secs(2);

/// The longest wait until a bucket or a database that an attempt needs, and that is away, is tried again.
const OUTAGE_POLL: Duration = Duration::from_secs(5);

/// How the pool works.
#[derive(Debug, Clone)]
pub struct WorkerSettings {
    /// One slot each: `cpu` or `cuda:N`.
    pub devices: Vec<String>,
    /// Bytes of memory that the attempts can have together; `None` where that is not known.
    pub memory_bytes: Option<u64>,
    /// Threads of each attempt.
    pub threads: usize,
    /// The program that is started with `run-attempt`.
    pub program: PathBuf,
    /// Directories of the jobs being worked on.
    pub scratch_dir: PathBuf,
    /// Lock files of the workers on this machine.
    pub workers_dir: PathBuf,
    /// Where local models lie.
    pub models_dir: Option<PathBuf>,
    /// Where data sets lie.
    pub data_dir: Option<PathBuf>,
    /// Where the bundled model was unpacked.
    pub bundled_dir: PathBuf,
    /// Scores of models, shared by all attempts.
    pub scores_dir: PathBuf,
    /// How long a job belongs to a worker that is not heard of.
    pub lease: Duration,
    /// How often a lease is renewed.
    pub heartbeat: Duration,
    /// How often leases and leftovers are looked over.
    pub sweep: Duration,
    /// Wait before the second attempt; doubles with each further one.
    pub retry_delay: Duration,
}

/// What the pool works with.
#[derive(Debug)]
pub struct WorkerParts {
    /// The database.
    pub store: Arc<dyn Store>,
    /// The artifacts.
    pub artifacts: Arc<Artifacts>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Somebody queued a job.
    pub wake: Arc<Notify>,
    /// Something is asked of whoever works on a job.
    pub asked: broadcast::Sender<JobId>,
}

/// The running pool.
#[derive(Debug)]
pub struct WorkerPool {
    context: Arc<Context>,
    tasks: TaskTracker,
}

/// Why a pool cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is no place for its lock file.
    #[error("cannot announce the worker in {}", directory.display())]
    Announce {
        /// Where lock files lie.
        directory: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A device of a kind that nobody knows.
    #[error("{0}")]
    Device(String),
}

/// What every task of the pool shares.
#[derive(Debug)]
struct Context {
    settings: WorkerSettings,
    parts: WorkerParts,
    presence: Presence,
    /// What the others are told.
    profile: WorkerProfile,
    active: Arc<ActiveJobs>,
    stop: CancellationToken,
}

impl WorkerPool {
    /// Gives back what workers held that died, then starts every slot. Files that they left are removed meanwhile.
    pub async fn start(settings: WorkerSettings, parts: WorkerParts) -> Result<Self, StartError> {
        let presence =
            Presence::announce(&settings.workers_dir).map_err(|source| StartError::Announce {
                directory: settings.workers_dir.clone(),
                source,
            })?;
        let profile = profile(&settings, &presence).map_err(StartError::Device)?;
        tracing::info!(worker.id = presence.worker_id(), devices = ?settings.devices, "worker started");
        let stop = CancellationToken::new();
        let context = Arc::new(Context {
            settings,
            parts,
            presence,
            profile,
            active: Arc::default(),
            stop,
        });
        let mut reaper = Reaper::default();
        reaper.look(&context).await;

        let tasks = TaskTracker::new();
        for device in context.profile.devices.clone() {
            tasks.spawn(serve_slot(Arc::clone(&context), device));
        }
        tasks.spawn(reaper.run(Arc::clone(&context)));
        tasks.spawn(Sweeper::default().run(Arc::clone(&context)));
        tasks.spawn(relay::run(Arc::clone(&context)));
        tasks.spawn(announce::run(Arc::clone(&context)));
        tasks.close();
        Ok(Self { context, tasks })
    }

    /// Claims nothing more, ends what runs and gives it back. Done when every child is gone.
    pub async fn stop(self) {
        self.context.stop.cancel();
        self.tasks.wait().await;
        announce::dismiss(&self.context).await;
        tracing::info!(
            worker.id = self.context.presence.worker_id(),
            "worker stopped"
        );
    }
}

/// What the others are told of a worker.
fn profile(settings: &WorkerSettings, presence: &Presence) -> Result<WorkerProfile, String> {
    let id = presence.worker_id().to_owned();
    let (devices, memory_bytes) = (&settings.devices, settings.memory_bytes);
    WorkerProfile::new(id, machine::host_name(), devices, memory_bytes)
}

async fn serve_slot(context: Arc<Context>, device: Device) {
    while !context.stop.is_cancelled() {
        // Subscribed before the claim: what is asked right after it is not missed.
        let asked = context.parts.asked.subscribe();
        match context.take(&device).await {
            Ok(Some((job, _active))) => {
                record_wait(&job);
                // One signal may stand for several jobs.
                context.parts.wake.notify_one();
                run(&context, &job, &device.name, asked).await;
            }
            Ok(None) => context.wait_for_work().await,
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    device = device.name,
                    "cannot claim a job"
                );
                context.pause(POLL).await;
            }
        }
    }
}

/// How long a job that was just claimed has waited since it could run.
fn record_wait(job: &Job) {
    let since = job.queued_at.max(job.run_after);
    let waited = job.updated_at.duration_since(since).as_secs_f64();
    metrics::histogram!("secateur_job_queue_wait_seconds").record(waited.max(0.0));
}

async fn run(context: &Context, job: &Job, device: &str, asked: broadcast::Receiver<JobId>) {
    let deadline = supervise::deadline(job);
    let ended = supervise::supervise(context, job, device, deadline, asked).await;
    let span = tracing::info_span!("record", worker.id = context.worker_id());
    let recorded = record::record(context, job, deadline, ended);
    recorded.instrument(span).await;
}

impl Context {
    fn worker_id(&self) -> &str {
        self.presence.worker_id()
    }

    fn now(&self) -> Timestamp {
        self.parts.clock.now()
    }

    fn scratch(&self, id: JobId) -> PathBuf {
        self.settings.scratch_dir.join(id.to_string())
    }

    /// Claims a job for a slot, which is at it from then on. One whose answer is lost is found by the [`Reaper`].
    async fn take(&self, device: &Device) -> Result<Option<(Job, Active)>, StoreError> {
        let _claiming = self.active.claiming().await;
        let claimed = self.claim(device).await?;
        Ok(claimed.map(|job| {
            let active = self.active.begin(job.id);
            (job, active)
        }))
    }

    async fn claim(&self, device: &Device) -> Result<Option<Job>, StoreError> {
        let claim = Claim {
            worker_id: self.worker_id().to_owned(),
            device: device.clone(),
            lease: self.settings.lease,
        };
        self.parts.store.claim_next_job(&claim).await
    }

    async fn wait_for_work(&self) {
        tokio::select! {
            () = self.parts.wake.notified() => {}
            () = self.pause(jittered(POLL)) => {}
        }
    }

    /// A bucket that is away is waited for, as a database is: another attempt would meet the same.
    async fn wait_for_bucket(&self, error: &ArtifactError) {
        tracing::warn!(
            error = error as &dyn std::error::Error,
            "the bucket is away, and waited for"
        );
        tokio::time::sleep(self.settings.retry_delay.min(OUTAGE_POLL)).await;
    }

    /// Waits, but not past the pool's end.
    async fn pause(&self, duration: Duration) {
        tokio::select! {
            () = tokio::time::sleep(duration) => {}
            () = self.stop.cancelled() => {}
        }
    }
}

/// Between three quarters and five quarters of `duration`, so that many workers do not move in step.
fn jittered(duration: Duration) -> Duration {
    let random = u32::try_from(RandomState::new().hash_one(()) >> 32).unwrap_or_default();
    duration.mul_f64(0.75 + 0.5 * f64::from(random) / f64::from(u32::MAX))
}
