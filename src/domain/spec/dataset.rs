//! The texts of a job.

use serde::{Deserialize, Serialize};

/// A text (or token ids) to calibrate or to evaluate on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "dataset", rename_all = "snake_case")]
pub enum DatasetRef {
    /// The bundled demo text.
    Demo,
    /// WikiText-2 raw.
    Wikitext2,
    /// C4, English.
    C4,
    /// A file below the operator's data directory: text, `.jsonl`, or `.jsonl.gz`.
    Local {
        /// Its path, relative to that directory.
        path: String,
    },
}

impl DatasetRef {
    /// The name that results carry.
    pub fn name(&self) -> &str {
        match self {
            Self::Demo => "demo",
            Self::Wikitext2 => "wikitext2",
            Self::C4 => "c4",
            Self::Local { path } => path,
        }
    }
}
