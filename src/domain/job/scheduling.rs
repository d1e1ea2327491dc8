//! What the queue goes by.

use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The kind of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeviceKind {
    /// The processor.
    Cpu,
    /// An NVIDIA GPU.
    Cuda,
}

impl DeviceKind {
    /// Every kind.
    pub const ALL: [Self; 2] = [Self::Cpu, Self::Cuda];

    /// The word on the wire and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
        }
    }
}

impl FromStr for DeviceKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda),
            other => Err(format!("unknown device {other:?}, expected cpu or cuda")),
        }
    }
}

/// When a job runs, and where it can.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scheduling {
    /// Higher ones are claimed first.
    pub priority: i32,
    /// Who asked for it: submitters share the workers evenly.
    pub submitter: String,
    /// The kind of device that it needs; `None` = any.
    pub device_kind: Option<DeviceKind>,
    /// Bytes of memory that it is thought to need; `None` = unknown.
    pub memory_bytes: Option<u64>,
    /// Bytes of disk that it is thought to need; `None` = unknown.
    pub disk_bytes: Option<u64>,
    /// Multiplications that it computes; `None` = unknown.
    pub work: Option<u64>,
    /// How long after its acceptance, or its last retry, it fails unless it is over.
    pub deadline_after: Option<Duration>,
    /// When that is.
    pub deadline_at: Option<Timestamp>,
}

impl Scheduling {
    /// The deadline of a job that is accepted, or tried again, at this time.
    #[must_use]
    pub fn begun_at(self, now: Timestamp) -> Self {
        Self {
            deadline_at: self.deadline_after.map(|after| now + after),
            ..self
        }
    }
}
