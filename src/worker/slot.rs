//! One slot: claims a job for its device, runs the attempt, records its end, again and again.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast;
use tracing::Instrument as _;

use super::attempt::{ActiveJob, deadline, supervise};
use super::context::Context;
use super::finish::record;
use crate::domain::JobId;
use crate::domain::job::Job;
use crate::domain::job::retry::jittered;
use crate::domain::worker::Device;
use crate::instruments;
use crate::store::{Claim, StoreError};

/// How often an idle slot looks for work without a wake-up, and every slot after a failed claim.
const POLL: Duration = Duration::from_secs(2);

/// Serves one device until the pool stops.
pub(super) async fn run(context: Arc<Context>, device: Device) {
    while !context.stop.is_cancelled() {
        // Subscribed before the claim: a request that comes right after it is not missed.
        let requests = context.parts.asked.subscribe();
        match context.take(&device).await {
            Ok(Some((job, _active))) => {
                record_wait(&job);
                // One signal may stand for several jobs.
                context.parts.wake.notify_one();
                run_job(&context, &job, &device.name, requests).await;
            }
            Ok(None) => wait_for_work(&context).await,
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

/// Records how long a claimed job has waited since it could run.
fn record_wait(job: &Job) {
    let since = job.queued_at.max(job.run_after);
    let waited = job.updated_at.duration_since(since).as_secs_f64();
    metrics::histogram!(instruments::JOB_QUEUE_WAIT_SECONDS).record(waited.max(0.0));
}

async fn run_job(context: &Context, job: &Job, device: &str, requests: broadcast::Receiver<JobId>) {
    let deadline = deadline(job);
    let ended = supervise(context, job, device, deadline, requests).await;
    let span = tracing::info_span!("record", worker.id = context.worker_id());
    record(context, job, deadline, ended).instrument(span).await;
}

async fn wait_for_work(context: &Context) {
    tokio::select! {
        () = context.parts.wake.notified() => {}
        () = context.pause(jittered(POLL)) => {}
    }
}

impl Context {
    /// Claims a job, which is active from then on. The reaper finds a claim whose answer was lost.
    async fn take(&self, device: &Device) -> Result<Option<(Job, ActiveJob)>, StoreError> {
        let _claiming = self.active.claiming().await;
        let claimed = self.claim(device).await?;
        Ok(claimed.map(|job| {
            let active = self.active.begin(job.id);
            (job, active)
        }))
    }

    pub(super) async fn claim(&self, device: &Device) -> Result<Option<Job>, StoreError> {
        let claim = Claim {
            worker_id: self.worker_id().to_owned(),
            device: device.clone(),
            free_disk_bytes: self.free_disk_bytes(),
            lease: self.settings.pool.lease_seconds,
        };
        self.parts.store.claim_next_job(&claim).await
    }
}
