//! Whether the hub may be asked, and with which token.

use std::convert::Infallible;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Whether the hub may be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HubReach {
    /// It may.
    Online,
    /// Its cache alone may be used (`HF_HUB_OFFLINE`).
    Offline {
        /// Where the cache lies.
        cache_dir: PathBuf,
    },
}

/// An access token. It can't be printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HubToken(String);

impl HubToken {
    /// Wraps a token as it was given.
    pub fn new(token: impl Into<String>) -> Self {
        Self(token.into())
    }

    /// For the request, and for the process that makes it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl FromStr for HubToken {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self::new(text))
    }
}

impl fmt::Debug for HubToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HubToken(hidden)")
    }
}
