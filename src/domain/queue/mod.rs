//! Why a queued job waits, and what the queue holds.

pub mod places;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use super::job::Job;
use super::job::scheduling::DeviceKind;
use super::job::state::JobState;
use super::worker::{Device, Worker};

/// What decides who may start, at one moment of the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterState {
    /// The moment.
    pub now: Timestamp,
    /// Whether nobody claims anything.
    pub paused: bool,
    /// When that changed last; `None` = never.
    pub changed_at: Option<Timestamp>,
    /// Every worker that is known, longest known first.
    pub workers: Vec<Worker>,
}

/// Queued jobs that are alike in all that decides whether they may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    /// Not before the time that its submitter, or its last failure, set.
    pub is_delayed: bool,
    /// Whether an attempt failed, or had to wait.
    pub is_retry: bool,
    /// The kind of device; `None` = any.
    pub device: Option<DeviceKind>,
    /// Bytes of memory; `None` = not known.
    pub memory_bytes: Option<u64>,
    /// Bytes of disk; `None` = not known.
    pub disk_bytes: Option<u64>,
    /// The version of the form that its spec is stored in.
    pub spec_version: u32,
}

impl Needs {
    /// Those of a job at this moment; `None` unless it is queued.
    pub fn of(job: &Job, now: Timestamp) -> Option<Self> {
        (job.state == JobState::Queued).then(|| Self {
            is_delayed: job.run_after > now,
            is_retry: job.error.is_some(),
            device: job.scheduling.device_kind,
            memory_bytes: job.scheduling.memory_bytes,
            disk_bytes: job.scheduling.disk_bytes,
            spec_version: job.spec_version,
        })
    }
}

/// Why a queued job is not running.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WaitReason {
    /// A worker that fits will take it when its turn comes.
    WaitingForWorker,
    /// No worker is alive.
    NoWorker,
    /// Workers are alive, and the job fits none of them.
    NoWorkerFits,
    /// Every worker that is alive claims nothing more.
    WorkersDraining,
    /// The queue is paused.
    QueuePaused,
    /// An attempt failed, and the next one has to wait.
    RetryBackoff,
    /// Its submitter wants it to start later.
    Scheduled,
}

/// Why a queued job is not running, and what would help.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Waiting {
    /// The reason.
    pub reason: WaitReason,
    /// The facts, where there are any.
    pub detail: Option<String>,
}

impl ClusterState {
    /// Why a queued job with these needs is not running. Of several reasons the one that would hold even if all of
    /// those after it did not: its time, the queue, the workers.
    pub fn why_waiting(&self, needs: &Needs) -> Waiting {
        let reason = |reason| Waiting {
            reason,
            detail: None,
        };
        if needs.is_delayed && needs.is_retry {
            return reason(WaitReason::RetryBackoff);
        }
        if needs.is_delayed {
            return reason(WaitReason::Scheduled);
        }
        if self.paused {
            return reason(WaitReason::QueuePaused);
        }
        let alive: Vec<_> = self
            .workers
            .iter()
            .filter(|worker| !worker.is_lost)
            .collect();
        if alive.is_empty() {
            return reason(WaitReason::NoWorker);
        }
        if let Some(misfit) = misfit_of_all(needs, &alive) {
            return Waiting {
                reason: WaitReason::NoWorkerFits,
                detail: Some(misfit),
            };
        }
        let devices = |is_wanted: fn(&Worker) -> bool| {
            let workers = alive.iter().filter(move |worker| {
                is_wanted(worker)
                    && worker.profile.has_disk(needs.disk_bytes)
                    && worker.profile.spec_version >= needs.spec_version
            });
            workers.flat_map(|worker| worker.profile.devices.iter())
        };
        let suits = |device: &Device| device.suits(needs.device, needs.memory_bytes);
        if devices(|worker| !worker.draining).any(suits) {
            return reason(WaitReason::WaitingForWorker);
        }
        if alive.iter().all(|worker| worker.draining) && devices(|_| true).any(suits) {
            return reason(WaitReason::WorkersDraining);
        }
        if devices(|_| true).any(suits) {
            return Waiting {
                reason: WaitReason::WorkersDraining,
                detail: Some("the workers that it fits are draining".to_owned()),
            };
        }
        Waiting {
            reason: WaitReason::NoWorkerFits,
            detail: Some(misfit(needs, devices(|_| true))),
        }
    }

    /// The same of a job, which may have been queued after this moment; `None` unless it is queued.
    pub fn why_waits(&self, job: &Job) -> Option<Waiting> {
        Needs::of(job, self.now.max(job.queued_at)).map(|needs| self.why_waiting(&needs))
    }

    /// The groups by reason and detail, the most frequent first.
    pub fn waiting(&self, groups: &[Group]) -> Vec<(Waiting, u64)> {
        let mut jobs = BTreeMap::new();
        for group in groups {
            *jobs.entry(self.why_waiting(&group.needs)).or_insert(0) += group.jobs;
        }
        let mut jobs: Vec<_> = jobs.into_iter().collect();
        jobs.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        jobs
    }
}

/// What the job needs of a worker as a whole and none has.
fn misfit_of_all(needs: &Needs, workers: &[&Worker]) -> Option<String> {
    let newest = workers
        .iter()
        .map(|worker| worker.profile.spec_version)
        .max()?;
    if newest < needs.spec_version {
        return Some("needs a worker of a newer version".to_owned());
    }
    let profiles = workers.iter().map(|worker| &worker.profile);
    let most = profiles
        .clone()
        .map(|profile| profile.free_disk_bytes)
        .max();
    let has_none = !profiles
        .into_iter()
        .any(|profile| profile.has_disk(needs.disk_bytes));
    let (needed, most) = needs.disk_bytes.zip(most.flatten())?;
    has_none.then(|| {
        format!(
            "needs about {} of disk, the worker with the most free has {}",
            amount(needed),
            amount(most)
        )
    })
}

/// What the job needs of a device and none has.
fn misfit<'a>(needs: &Needs, devices: impl Iterator<Item = &'a Device>) -> String {
    let of_kind = |device: &&Device| needs.device.is_none_or(|kind| kind == device.kind);
    let most = devices.filter(of_kind).map(|device| device.memory_bytes);
    match (most.max(), needs.device, needs.memory_bytes) {
        (Some(Some(most)), _, Some(needed)) => format!(
            "needs about {} of memory, the largest worker that suits has {}",
            amount(needed),
            amount(most)
        ),
        (_, Some(kind), _) => format!("needs {}, no worker has one", kind.as_str()),
        (_, None, _) => "no worker has a device".to_owned(),
    }
}

fn amount(bytes: u64) -> String {
    if bytes < 1 << 30 {
        return format!("{} MiB", bytes.div_ceil(1 << 20));
    }
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
}

/// Queued jobs that are alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group {
    /// What they need.
    pub needs: Needs,
    /// How many they are.
    pub jobs: u64,
    /// Since when the one that has waited longest could run.
    pub since: Timestamp,
}

/// What a submitter has in the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubmitterLoad {
    /// The submitter's label.
    pub submitter: String,
    /// Its queued jobs.
    pub queued: u64,
    /// Its jobs that a worker holds.
    pub running: u64,
}

/// What the queue holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueContent {
    /// Every queued job.
    pub groups: Vec<Group>,
    /// Number of jobs that a worker holds.
    pub running: u64,
    /// Those with the most queued jobs first, and no more than were asked for.
    pub submitters: Vec<SubmitterLoad>,
}

impl QueueContent {
    /// Jobs that may start, and jobs that may not yet.
    pub fn ready_and_delayed(&self) -> (u64, u64) {
        let count = |is_delayed| {
            let groups = self.groups.iter();
            let groups = groups.filter(|group| group.needs.is_delayed == is_delayed);
            groups.map(|group| group.jobs).sum()
        };
        (count(false), count(true))
    }

    /// How long the job has waited that could have run longest ago, in seconds.
    pub fn oldest_age_seconds(&self, now: Timestamp) -> Option<f64> {
        let ready = self.groups.iter().filter(|group| !group.needs.is_delayed);
        let since = ready.map(|group| group.since).min()?;
        Some(now.duration_since(since).as_secs_f64().max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::worker::WorkerProfile;

    const GIB: u64 = 1 << 30;

    pub(super) fn worker(devices: &[&str], memory_gib: u64) -> Worker {
        let names: Vec<_> = devices.iter().map(|&name| name.to_owned()).collect();
        let memory = Some(memory_gib * GIB);
        let id = "worker_1".to_owned();
        Worker {
            profile: WorkerProfile::new(id, "host".to_owned(), &names, memory).unwrap(),
            draining: false,
            is_lost: false,
            started_at: Timestamp::UNIX_EPOCH,
            seen_at: Timestamp::UNIX_EPOCH,
            jobs: Vec::new(),
        }
    }

    pub(super) fn cluster_state(workers: Vec<Worker>) -> ClusterState {
        ClusterState {
            now: Timestamp::UNIX_EPOCH,
            paused: false,
            changed_at: None,
            workers,
        }
    }

    const PLAIN: Needs = Needs {
        is_delayed: false,
        is_retry: false,
        device: None,
        memory_bytes: None,
        disk_bytes: None,
        spec_version: 1,
    };

    fn lost(worker: Worker) -> Worker {
        Worker {
            is_lost: true,
            ..worker
        }
    }

    pub(super) fn draining(worker: Worker) -> Worker {
        Worker {
            draining: true,
            ..worker
        }
    }

    fn big(gib: u64) -> Needs {
        Needs {
            memory_bytes: Some(gib * GIB),
            ..PLAIN
        }
    }

    fn on_cuda(gib: Option<u64>) -> Needs {
        Needs {
            device: Some(DeviceKind::Cuda),
            memory_bytes: gib.map(|gib| gib * GIB),
            ..PLAIN
        }
    }

    #[test]
    fn a_job_that_waits_says_why() {
        use WaitReason::{NoWorker, NoWorkerFits, WaitingForWorker, WorkersDraining};
        let cpu = |gib| worker(&["cpu"], gib);
        let cuda = || worker(&["cuda:0"], 16);
        let too_big = "needs about 24.0 GiB of memory, the largest worker that suits has 16.0 GiB";
        let cases = [
            (vec![], PLAIN, NoWorker, None),
            (vec![lost(cpu(16))], PLAIN, NoWorker, None),
            (vec![cpu(16)], PLAIN, WaitingForWorker, None),
            (vec![cpu(16)], big(16), WaitingForWorker, None),
            (vec![cpu(8), cpu(16)], big(24), NoWorkerFits, Some(too_big)),
            (
                vec![cpu(16), lost(cpu(32))],
                big(24),
                NoWorkerFits,
                Some(too_big),
            ),
            (vec![cpu(8), cpu(32)], big(24), WaitingForWorker, None),
            (vec![cpu(16), cuda()], big(24), WaitingForWorker, None),
            (
                vec![cpu(64)],
                on_cuda(Some(1)),
                NoWorkerFits,
                Some("needs cuda, no worker has one"),
            ),
            (vec![cpu(64), cuda()], on_cuda(None), WaitingForWorker, None),
            (vec![draining(cpu(16))], PLAIN, WorkersDraining, None),
            (
                vec![draining(cpu(16))],
                big(24),
                NoWorkerFits,
                Some(too_big),
            ),
            (
                vec![draining(cpu(32)), cpu(8)],
                big(24),
                WorkersDraining,
                Some("the workers that it fits are draining"),
            ),
        ];
        for (workers, needs, reason, detail) in cases {
            let found = cluster_state(workers.clone()).why_waiting(&needs);
            let detail = detail.map(str::to_owned);
            assert_eq!(
                found,
                Waiting { reason, detail },
                "{needs:?} with {workers:?}"
            );
        }
    }

    #[test]
    fn a_job_that_no_worker_has_the_disk_or_the_version_for_says_so() {
        let mut worker = worker(&["cpu"], 16);
        worker.profile.free_disk_bytes = Some(2 * GIB);
        let needs = |disk_gib: u64, spec_version| Needs {
            disk_bytes: Some(disk_gib * GIB),
            spec_version,
            ..PLAIN
        };
        let now = cluster_state(vec![worker]);
        let found = [needs(2, 1), needs(3, 1), needs(2, u32::MAX)].map(|needs| {
            let waiting = now.why_waiting(&needs);
            (waiting.reason, waiting.detail.unwrap_or_default())
        });
        let disk = "needs about 3.0 GiB of disk, the worker with the most free has 2.0 GiB";
        let version = "needs a worker of a newer version";
        let expected = [
            (WaitReason::WaitingForWorker, ""),
            (WaitReason::NoWorkerFits, disk),
            (WaitReason::NoWorkerFits, version),
        ];
        assert_eq!(
            found,
            expected.map(|(reason, detail)| (reason, detail.to_owned()))
        );
    }

    #[test]
    fn its_time_comes_before_the_queue_and_the_queue_before_the_workers() {
        let mut now = cluster_state(Vec::new());
        now.paused = true;
        let delayed = Needs {
            is_delayed: true,
            ..PLAIN
        };
        let retried = Needs {
            is_retry: true,
            ..delayed
        };
        let reasons = [retried, delayed, PLAIN].map(|needs| now.why_waiting(&needs).reason);
        assert_eq!(
            reasons,
            [
                WaitReason::RetryBackoff,
                WaitReason::Scheduled,
                WaitReason::QueuePaused
            ]
        );
    }

    #[test]
    fn groups_that_wait_for_the_same_reason_are_one() {
        let group = |needs, jobs| Group {
            needs,
            jobs,
            since: Timestamp::UNIX_EPOCH,
        };
        let now = cluster_state(vec![worker(&["cpu"], 16)]);
        let found = now.waiting(&[group(big(1), 2), group(big(24), 4), group(PLAIN, 3)]);
        let found: Vec<_> = found
            .into_iter()
            .map(|(waiting, jobs)| (waiting.reason, jobs))
            .collect();
        assert_eq!(
            found,
            [
                (WaitReason::WaitingForWorker, 5),
                (WaitReason::NoWorkerFits, 4)
            ]
        );
    }
}
