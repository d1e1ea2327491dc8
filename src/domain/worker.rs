//! A worker process as the others see it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::id::JobId;
use super::job::scheduling::DeviceKind;
use super::spec::SPEC_VERSION;

/// One device of a worker: it runs one attempt at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Device {
    /// Its name on its machine, such as `cuda:1`.
    pub name: String,
    /// Its kind.
    pub kind: DeviceKind,
    /// Bytes of memory that an attempt on it can have at most; `null` where that is not known.
    pub memory_bytes: Option<u64>,
}

impl Device {
    /// Whether a job with these needs can run on it when nothing else does.
    pub fn suits(&self, kind: Option<DeviceKind>, memory_bytes: Option<u64>) -> bool {
        kind.is_none_or(|kind| kind == self.kind) && self.has_memory(memory_bytes)
    }

    fn has_memory(&self, needed: Option<u64>) -> bool {
        needed
            .zip(self.memory_bytes)
            .is_none_or(|(needed, has)| needed <= has)
    }
}

/// Bytes that a worker's machine holds for jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct UsedBytes {
    /// Jobs in progress, and paused ones.
    pub scratch: u64,
    /// Scores that were measured before.
    pub scores: u64,
    /// The cache of the hub, which other programs may use too.
    pub hub_cache: u64,
}

/// What a worker says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerProfile {
    /// `worker_` and a UUID, another one for each process.
    pub id: String,
    /// The machine's name.
    pub host: String,
    /// The version of its program.
    pub version: String,
    /// What it computes on.
    pub devices: Vec<Device>,
    /// Bytes of memory that its attempts can have together; `None` where that is not known.
    pub memory_bytes: Option<u64>,
    /// Bytes that are free on its disk; `None` where that is not known.
    pub free_disk_bytes: Option<u64>,
    /// What its machine holds for jobs; `None` until that was measured.
    pub used_bytes: Option<UsedBytes>,
    /// The newest spec version that it knows.
    pub spec_version: u32,
}

impl WorkerProfile {
    /// Of this version of the program. Attempts on processors share the memory; that of other devices is not known.
    pub fn new(
        id: String,
        host: String,
        device_names: &[String],
        memory_bytes: Option<u64>,
    ) -> Result<Self, String> {
        let device = |name: &String| {
            let kind = kind_of(name)?;
            Ok(Device {
                name: name.clone(),
                kind,
                memory_bytes: memory_bytes.filter(|_| kind == DeviceKind::Cpu),
            })
        };
        Ok(Self {
            id,
            host,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            devices: device_names
                .iter()
                .map(device)
                .collect::<Result<_, String>>()?,
            memory_bytes,
            free_disk_bytes: None,
            used_bytes: None,
            spec_version: SPEC_VERSION,
        })
    }

    /// Whether its disk has this much free.
    pub fn has_disk(&self, needed: Option<u64>) -> bool {
        needed
            .zip(self.free_disk_bytes)
            .is_none_or(|(needed, free)| needed <= free)
    }
}

/// The kind of a device by its name, such as `cuda:1`.
fn kind_of(name: &str) -> Result<DeviceKind, String> {
    name.split(':').next().unwrap_or_default().parse()
}

/// A worker, as the database has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worker {
    /// What it said of itself last.
    pub profile: WorkerProfile,
    /// Whether it shall claim nothing more.
    pub draining: bool,
    /// Whether it has not been heard of for as long as its leases last.
    pub is_lost: bool,
    /// When it was heard of first.
    pub started_at: Timestamp,
    /// When it was heard of last.
    pub seen_at: Timestamp,
    /// The jobs that it holds, oldest first.
    pub jobs: Vec<JobId>,
}

/// How a worker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WorkerStatus {
    /// It waits for a job.
    Idle,
    /// It holds at least one.
    Busy,
    /// It claims nothing more.
    Draining,
    /// It has not been heard of for as long as its leases last.
    Lost,
}

impl Worker {
    /// The first that is true of: lost, draining, busy, idle.
    pub fn status(&self) -> WorkerStatus {
        if self.is_lost {
            WorkerStatus::Lost
        } else if self.draining {
            WorkerStatus::Draining
        } else if self.jobs.is_empty() {
            WorkerStatus::Idle
        } else {
            WorkerStatus::Busy
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_the_machine_is_that_of_its_processors() {
        let names = ["cpu", "cuda:1"].map(str::to_owned);
        let profile = WorkerProfile::new("w".to_owned(), "h".to_owned(), &names, Some(8)).unwrap();
        let found: Vec<_> = profile
            .devices
            .iter()
            .map(|device| (device.kind, device.memory_bytes))
            .collect();
        assert_eq!(
            found,
            [(DeviceKind::Cpu, Some(8)), (DeviceKind::Cuda, None)]
        );
        assert!(kind_of("tpu:0").is_err());
    }

    #[test]
    fn a_device_suits_by_kind_and_memory() {
        let device = |memory_bytes| Device {
            name: "cpu".to_owned(),
            kind: DeviceKind::Cpu,
            memory_bytes,
        };
        let (small, unknown) = (device(Some(8)), device(None));
        assert!(small.suits(None, None) && small.suits(Some(DeviceKind::Cpu), Some(8)));
        assert!(!small.suits(None, Some(9)) && !small.suits(Some(DeviceKind::Cuda), None));
        assert!(unknown.suits(None, Some(u64::MAX)));
    }
}
