//! How the hub is reached. What is left out, the client library takes from the variables that all of Hugging Face's
//! tools share: `HF_ENDPOINT`, `HF_TOKEN`, `HF_TOKEN_PATH`, `HF_HOME`, `HF_HUB_CACHE`.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use super::HubError;
use crate::domain::{HubReach, HubToken};

/// Where models and data sets come from and where they are kept.
#[derive(Debug, Clone)]
pub struct HubOptions {
    /// The hub or a mirror of it.
    pub endpoint: Option<String>,
    /// Opens gated and private models.
    pub token: Option<HubToken>,
    /// The cache, in the layout that Hugging Face's tools share.
    pub cache_dir: Option<PathBuf>,
    /// Use the cache alone.
    pub offline: bool,
    /// Pause before the first retry; doubled for each further one.
    pub retry_delay: Duration,
    /// How long an answer may take before it is asked whether the hub is there at all.
    pub first_look: Duration,
    /// How long the hub may send nothing.
    pub stall_timeout: Duration,
}

impl Default for HubOptions {
    fn default() -> Self {
        Self {
            endpoint: None,
            token: None,
            cache_dir: None,
            offline: false,
            retry_delay: Duration::from_millis(500),
            first_look: Duration::from_secs(1),
            stall_timeout: Duration::from_mins(1),
        }
    }
}

impl HubOptions {
    /// The defaults, with `HF_HUB_OFFLINE` and the token that this process was handed, or that of `HF_TOKEN`.
    #[expect(
        clippy::disallowed_methods,
        reason = "variables of the hub's family that the client library does not read, or not as the Python client does"
    )]
    pub fn from_env() -> Self {
        let token = std::env::var("HF_TOKEN").ok().map(HubToken::new);
        Self {
            token: TOKEN.get().cloned().or(token),
            offline: std::env::var("HF_HUB_OFFLINE").is_ok_and(|value| is_true(&value)),
            ..Self::default()
        }
    }

    /// Whether the hub may be asked, and where its cache lies if not.
    pub fn reach(&self) -> Result<HubReach, HubError> {
        if !self.offline {
            return Ok(HubReach::Online);
        }
        Ok(HubReach::Offline {
            cache_dir: self.cache_in_use()?,
        })
    }

    /// Where the client library keeps what it fetches.
    pub fn cache_in_use(&self) -> Result<PathBuf, HubError> {
        Ok(self.client("the cache")?.cache_dir().to_path_buf())
    }
}

/// Directories of this machine that the client library may keep models in, as the environment names them.
pub fn cache_dirs() -> Vec<PathBuf> {
    let named = |name| std::env::var_os(name).map(PathBuf::from);
    [
        "HF_HUB_CACHE",
        "HUGGINGFACE_HUB_CACHE",
        "HF_HOME",
        "XDG_CACHE_HOME",
        "HOME",
    ]
    .into_iter()
    .filter_map(named)
    .collect()
}

/// The values that the Python client takes for yes.
fn is_true(value: &str) -> bool {
    ["1", "ON", "YES", "TRUE"].contains(&value.to_ascii_uppercase().as_str())
}

/// The token that this process was handed.
static TOKEN: OnceLock<HubToken> = OnceLock::new();

/// Has every later request of this process carry the token, which is not in its environment.
pub fn use_token(token: HubToken) {
    // The first one stays: a process is handed one.
    drop(TOKEN.set(token));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offline_is_said_as_to_the_python_client() {
        for value in ["1", "true", "Yes", "ON"] {
            assert!(is_true(value), "{value:?}");
        }
        for value in ["", "0", "no", "false", "2"] {
            assert!(!is_true(value), "{value:?}");
        }
    }
}
