//! Where a queued job is in the queue, and when it may start.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::{ClusterState, WaitReason};
use crate::domain::id::JobId;
use crate::domain::job::Job;
use crate::domain::job::scheduling::DeviceKind;

/// Where queued jobs are in the queue.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places {
    /// By priority and age, 1 for the first. Submitters take turns, so jobs do not start in this order.
    pub positions: BTreeMap<JobId, u64>,
    /// How long the jobs took that succeeded last; `None` without any.
    pub mean_run: Option<Duration>,
    /// Those whose work is known.
    pub recent: Vec<PastRun>,
}

/// A job that succeeded at its first attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PastRun {
    /// Multiplications that it computed.
    pub work: u64,
    /// The kind of device that it asked for.
    pub device: Option<DeviceKind>,
    /// How long it ran.
    pub took: Duration,
}

/// How many times as large as another job one may be to tell how long that takes: a small one mostly starts and ends.
const SIMILAR: u64 = 10;

impl Places {
    /// How long a job may run, as fast as the last ones of about its size; `None` without any.
    pub fn expected_run(&self, job: &Job) -> Option<Duration> {
        let work = job.scheduling.work.filter(|work| *work > 0)?;
        let is_similar = |run: &&PastRun| {
            let (small, large) = (run.work.min(work), run.work.max(work));
            run.device == job.scheduling.device_kind && large <= small.saturating_mul(SIMILAR)
        };
        let similar = self.recent.iter().filter(is_similar);
        let (done, took) = similar.fold((0.0, Duration::ZERO), |(done, took), run| {
            (done + run.work as f64, took.saturating_add(run.took))
        });
        // Without any, this is 0 / 0.
        let seconds = took.as_secs_f64() * (work as f64 / done);
        Duration::try_from_secs_f64(seconds).ok()
    }

    /// When a queued job may start if jobs take as long as the last ones did; `None` while that cannot be said.
    pub fn expected_start(&self, job: &Job, cluster: &ClusterState) -> Option<Timestamp> {
        match cluster.why_waits(job)?.reason {
            WaitReason::Scheduled | WaitReason::RetryBackoff => return Some(job.run_after),
            WaitReason::WaitingForWorker => {}
            WaitReason::NoWorker
            | WaitReason::NoWorkerFits
            | WaitReason::WorkersDraining
            | WaitReason::QueuePaused => return None,
        }
        let workers = cluster.workers.iter();
        let claiming = workers.filter(|worker| !worker.is_lost && !worker.draining);
        let (slots, busy) = claiming.fold((0, 0), |(slots, busy), worker| {
            (
                slots + worker.profile.devices.len(),
                busy + worker.jobs.len(),
            )
        });
        let idle = slots.saturating_sub(busy) as u64;
        let before = self.positions.get(&job.id)?.saturating_sub(idle);
        if before == 0 {
            return Some(cluster.now);
        }
        let wait = self.mean_run?.as_secs_f64() * before as f64 / slots.max(1) as f64;
        let wait = Duration::try_from_secs_f64(wait).ok()?;
        cluster.now.checked_add(wait).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{cluster_state, draining, worker};
    use super::*;
    use crate::request::{Defaults, JobRequest};

    #[test]
    fn a_start_is_expected_by_place_and_by_how_long_jobs_take() {
        let id = JobId::new(uuid::Uuid::nil());
        let body = serde_json::json!({"model": "demo", "sparsity": 0.5});
        let spec = JobRequest::parse(&body, Defaults::CPU).unwrap().spec;
        let mut job = Job::new(id, spec, Timestamp::UNIX_EPOCH);
        let places = |position, minutes: Option<u64>| Places {
            positions: BTreeMap::from([(id, position)]),
            mean_run: minutes.map(Duration::from_mins),
            recent: Vec::new(),
        };
        let mut busy = worker(&["cpu"], 16);
        busy.jobs = vec![id];
        let after = |minutes| Some(Timestamp::UNIX_EPOCH + Duration::from_mins(minutes));
        let idle = || worker(&["cpu"], 16);
        for (workers, position, minutes, expected) in [
            (vec![idle()], 1, None, after(0)),
            (vec![idle(), busy.clone()], 2, None, None),
            (vec![idle(), busy.clone()], 2, Some(10), after(5)),
            (vec![busy.clone()], 3, Some(10), after(30)),
            (vec![], 1, Some(10), None),
            (vec![draining(idle())], 1, Some(10), None),
        ] {
            let cluster = cluster_state(workers);
            let found = places(position, minutes).expected_start(&job, &cluster);
            assert_eq!(found, expected, "{position} {minutes:?} {cluster:?}");
        }
        job.run_after = Timestamp::UNIX_EPOCH + Duration::from_hours(1);
        let scheduled = places(1, None).expected_start(&job, &cluster_state(vec![idle()]));
        assert_eq!(scheduled, Some(job.run_after));
    }

    #[test]
    fn a_job_takes_as_long_as_others_of_its_size_on_its_kind_of_device() {
        let body = serde_json::json!({"model": "demo", "sparsity": 0.5});
        let spec = JobRequest::parse(&body, Defaults::CPU).unwrap().spec;
        let id = JobId::new(uuid::Uuid::nil());
        let mut job = Job::new(id, spec, Timestamp::UNIX_EPOCH);
        let run = |work, device, seconds| PastRun {
            work,
            device,
            took: Duration::from_secs(seconds),
        };
        let places = |recent: &[PastRun]| Places {
            recent: recent.to_vec(),
            ..Places::default()
        };
        let recent = [
            run(1000, None, 10),
            run(3000, None, 30),
            run(2, None, 10),
            run(1000, Some(DeviceKind::Cuda), 1),
        ];
        let mut expected = |work, device| {
            job.scheduling.work = work;
            job.scheduling.device_kind = device;
            places(&recent).expected_run(&job)
        };
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(expected(Some(2000), None), seconds(20));
        assert_eq!(expected(Some(2000), Some(DeviceKind::Cuda)), seconds(2));
        assert_eq!(expected(Some(2000), Some(DeviceKind::Cpu)), None);
        assert_eq!(expected(Some(30_000), None), seconds(300), "ten times");
        assert_eq!(expected(Some(100), None), seconds(1), "a tenth");
        assert_eq!(expected(Some(99), None), None, "nothing of its size");
        assert_eq!(expected(Some(30_001), None), None, "nothing of its size");
        assert_eq!(expected(Some(0), None), None);
        assert_eq!(expected(None, None), None);
    }
}
