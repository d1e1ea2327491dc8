//! Where a queued job is in the queue, and when it may start.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::{ClusterState, WaitReason};
use crate::domain::id::JobId;
use crate::domain::job::Job;

/// Where queued jobs are in the queue.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places {
    /// By priority and age, 1 for the first. Submitters take turns, so jobs do not start in this order.
    pub positions: BTreeMap<JobId, u64>,
    /// How long the jobs took that succeeded last; `None` without any.
    pub mean_run: Option<Duration>,
}

impl Places {
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
}
