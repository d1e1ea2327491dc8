//! The device that a job computes on.

use std::fmt;
use std::str::FromStr;

use candle_core::{Device, DeviceLocation};

use super::PipelineError;
use crate::domain::ErrorCode;
use crate::domain::attempt::AttemptSpec;
use crate::engine::{ResumeState, compute_type};

/// A device by its name: `cpu` or `cuda:N`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceName {
    /// The processor.
    Cpu,
    /// An NVIDIA GPU by its number.
    Cuda(usize),
}

impl DeviceName {
    /// The device that a worker has for an attempt.
    pub fn of_attempt(attempt: &AttemptSpec) -> Result<Self, PipelineError> {
        let parsed = attempt.device.parse();
        parsed.map_err(|message: String| {
            PipelineError::refused(ErrorCode::DeviceUnavailable, message)
        })
    }

    /// Fails where an attempt could not use the device either.
    pub fn check(&self) -> Result<(), PipelineError> {
        self.open().map(drop)
    }

    /// Makes the device ready.
    pub(super) fn open(&self) -> Result<Device, PipelineError> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda(index) => {
                let unavailable = |reason: &dyn fmt::Display| {
                    PipelineError::refused(
                        ErrorCode::DeviceUnavailable,
                        format!("device cuda:{index} cannot be used: {reason}"),
                    )
                };
                if !cfg!(feature = "cuda") {
                    return Err(unavailable(
                        &"this program was built without `--features cuda`",
                    ));
                }
                Device::new_cuda(*index).map_err(|error| unavailable(&error))
            }
        }
    }

    /// How it computes.
    pub(super) fn compute_type(&self) -> String {
        compute_type(match *self {
            Self::Cpu => DeviceLocation::Cpu,
            Self::Cuda(gpu_id) => DeviceLocation::Cuda { gpu_id },
        })
    }

    /// The block that a saved resume state goes on with; `None` where an attempt on this device cannot use it.
    pub fn resumed_block(&self, state: &[u8]) -> Option<usize> {
        ResumeState::block_of(state, &self.compute_type())
    }

    /// As it is written.
    pub(super) fn name(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

impl FromStr for DeviceName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("cuda:").map(str::parse) {
            Some(Ok(index)) => Ok(Self::Cuda(index)),
            None if text == "cpu" => Ok(Self::Cpu),
            _ => Err(format!("unknown device {text:?}, expected cpu or cuda:N")),
        }
    }
}
