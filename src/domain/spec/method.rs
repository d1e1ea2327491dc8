//! How weights are ranked.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How weights are ranked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Method {
    /// `|W_ij| · ‖X_j‖₂` within each output row (arXiv 2306.11695, eq. 1).
    Wanda,
    /// `|W_ij|` over the whole linear.
    Magnitude,
}

impl Method {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Wanda => "wanda",
            Self::Magnitude => "magnitude",
        }
    }
}

impl FromStr for Method {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "wanda" => Ok(Self::Wanda),
            "magnitude" => Ok(Self::Magnitude),
            other => Err(format!(
                "unknown method {other:?}, expected wanda or magnitude"
            )),
        }
    }
}
