//! Where the model of a job lies.

use std::path::PathBuf;
use std::time::SystemTime;

use crate::domain::ErrorCode;
use crate::domain::attempt::AttemptSpec;
use crate::domain::spec::ModelRef;
use crate::models::ModelLibrary;
use crate::pipeline::PipelineError;

/// Where the model lies.
#[derive(Debug, Clone)]
pub enum ModelSource {
    /// A repository of the hub.
    Hub {
        /// `organisation/name`.
        id: String,
        /// Branch, tag or commit.
        revision: String,
        /// The commit of the revision, where it was found before.
        commit: Option<String>,
        /// When that was found, or before; `None` = not known.
        found_at: Option<SystemTime>,
    },
    /// A directory.
    Directory {
        /// What the manifest calls it.
        id: String,
        /// Where it is.
        path: PathBuf,
    },
    /// The artifact of another job.
    Artifact {
        /// That job.
        id: String,
        /// Its directory.
        path: PathBuf,
    },
}

impl ModelSource {
    /// Where a model of an attempt at a service's job lies.
    pub fn of_attempt(attempt: &AttemptSpec, model: &ModelRef) -> Result<Self, PipelineError> {
        let library = ModelLibrary {
            models_dir: attempt.models_dir.clone(),
            bundled_dir: attempt.bundled_dir.clone(),
            hub_cache: None,
        };
        Ok(match model {
            ModelRef::Hub { id, revision } => Self::Hub {
                id: id.clone(),
                revision: revision.clone(),
                commit: attempt
                    .commits
                    .iter()
                    .find(|pinned| pinned.is_of(id, revision))
                    .map(|pinned| pinned.commit.clone()),
                found_at: attempt.submitted_at.map(SystemTime::from),
            },
            ModelRef::Local { id } => Self::Directory {
                id: id.clone(),
                path: library.locate(id)?,
            },
            ModelRef::Job { id } => Self::Artifact {
                id: id.to_string(),
                path: attempt.job_artifacts.get(id).cloned().ok_or_else(|| {
                    let message = format!("the artifact of the job {id} is not there");
                    PipelineError::refused(ErrorCode::ModelNotFound, message)
                })?,
            },
        })
    }

    /// The same, at the commit that was found for another model of this revision: the branch may have moved since.
    pub(in crate::pipeline) fn pinned_like(&self, other: &Self, found: Option<&str>) -> Self {
        match (self, other) {
            (
                Self::Hub { id, revision, .. },
                Self::Hub {
                    id: other_id,
                    revision: other_revision,
                    ..
                },
            ) if (id, revision) == (other_id, other_revision) => Self::Hub {
                id: id.clone(),
                revision: revision.clone(),
                commit: found.map(str::to_owned),
                found_at: None,
            },
            _ => self.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_that_is_named_twice_is_one_commit() {
        let hub = |revision: &str, commit: Option<&str>| ModelSource::Hub {
            id: "org/name".to_owned(),
            revision: revision.to_owned(),
            commit: commit.map(str::to_owned),
            found_at: None,
        };
        let commit = |model: &ModelSource| match model {
            ModelSource::Hub { commit, .. } => commit.clone(),
            _ => None,
        };
        let main = hub("main", None);
        let same = main.pinned_like(&main, Some("c0ffee"));
        assert_eq!(commit(&same).as_deref(), Some("c0ffee"));
        let other = hub("v1", None).pinned_like(&main, Some("c0ffee"));
        assert_eq!(commit(&other), None);
    }
}
