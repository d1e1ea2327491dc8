//! Defaults that depend on what the server computes with.

/// Defaults of one server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Defaults {
    /// Calibration windows.
    pub n_samples: usize,
}

impl Defaults {
    /// The paper's recipe.
    pub const GPU: Self = Self { n_samples: 128 };
    /// An eighth of its windows, for a CPU computes that much longer.
    pub const CPU: Self = Self { n_samples: 16 };

    /// The paper's recipe unless every device is a CPU.
    pub fn for_devices<S: AsRef<str>>(devices: &[S]) -> Self {
        if devices.iter().all(|device| device.as_ref() == "cpu") {
            Self::CPU
        } else {
            Self::GPU
        }
    }
}
