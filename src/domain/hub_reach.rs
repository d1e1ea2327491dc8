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
    /// Takes a token without its line ends and the blanks around it, as the Python client does.
    pub fn new(token: impl Into<String>) -> Self {
        let token: String = token.into();
        Self(token.replace(['\r', '\n'], "").trim().to_owned())
    }

    /// Whether nothing was left of it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// For the request; `None` if it cannot stand in one.
    pub fn reveal(&self) -> Option<&str> {
        let is_visible = self.0.bytes().all(|b| b.is_ascii_graphic());
        is_visible.then_some(&self.0)
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
