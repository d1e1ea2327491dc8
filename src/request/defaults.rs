//! Defaults that depend on what the server computes with.

/// Defaults of one server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Defaults {
    /// Calibration windows.
    pub n_samples: usize,
    /// The most tokens of a text to measure perplexity on; `None` = all.
    pub max_tokens: Option<usize>,
}

impl Defaults {
    /// The paper's recipe.
    pub const GPU: Self = Self {
        n_samples: 128,
        max_tokens: None,
    };
    /// An eighth of its windows, and 32 of 2048 tokens to measure, for a CPU computes that much longer.
    pub const CPU: Self = Self {
        n_samples: 16,
        max_tokens: Some(65_536),
    };

    /// The paper's recipe unless every device is a CPU.
    pub fn for_devices<S: AsRef<str>>(devices: &[S]) -> Self {
        if devices.iter().all(|device| device.as_ref() == "cpu") {
            Self::CPU
        } else {
            Self::GPU
        }
    }
}
