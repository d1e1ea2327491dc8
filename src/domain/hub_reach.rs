//! Whether the hub may be asked.

use std::path::PathBuf;

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
