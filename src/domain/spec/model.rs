//! Which model a job is about.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::domain::JobId;

/// The id of the model that comes with the program.
pub const BUNDLED_MODEL: &str = "demo";

/// Where the model comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "source", rename_all = "snake_case")]
pub enum ModelRef {
    /// A repository of the model hub.
    Hub {
        /// `organisation/name`.
        id: String,
        /// Branch, tag or commit; `main` unless asked.
        revision: String,
    },
    /// A directory below the operator's models directory, or the bundled model `demo`.
    Local {
        /// The directory's name, possibly nested with `/`.
        id: String,
    },
    /// The artifact of a succeeded job; for jobs of the type `evaluate`.
    Job {
        /// That job.
        #[schema(value_type = String)]
        id: JobId,
    },
}

/// The commit that a revision of a hub model had when it was first asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PinnedCommit {
    /// `organisation/name`.
    pub id: String,
    /// The branch, tag or commit that was asked for.
    pub revision: String,
    /// 40 hexadecimal digits.
    pub commit: String,
}

impl PinnedCommit {
    /// Whether it is that of this revision of this model.
    pub fn is_of(&self, id: &str, revision: &str) -> bool {
        (self.id.as_str(), self.revision.as_str()) == (id, revision)
    }
}

impl ModelRef {
    /// The id alone, as lists and filters show it.
    pub fn id(&self) -> Cow<'_, str> {
        match self {
            Self::Hub { id, .. } | Self::Local { id } => id.into(),
            Self::Job { id } => id.to_string().into(),
        }
    }
}
