//! Finds local models, below the operator's models directory or bundled, and says what is known of those of the hub.

mod check;
mod found;
mod remote;
mod weight_files;

use std::path::{Component, Path, PathBuf};

use crate::domain::spec::BUNDLED_MODEL;
pub use check::{CheckError, Checked, CheckedModel, Elsewhere};
pub use found::FoundModel;
pub use remote::{ModelHub, NoRemoteModel, RemoteModel};
pub use weight_files::{weight_map, weight_map_of};

/// Where local models may lie.
#[derive(Debug, Clone)]
pub struct ModelLibrary {
    /// `SECATEUR_MODELS_DIR`.
    pub models_dir: Option<PathBuf>,
    /// Where the bundled model was unpacked.
    pub bundled_dir: PathBuf,
    /// Where the hub's models are cached on this machine.
    pub hub_cache: Option<PathBuf>,
}

/// No local model of this id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModelNotFound {
    /// There is no such directory.
    #[error("there is no local model {0:?}")]
    Absent(String),
    /// No directory is searched.
    #[error("there is no local model {0:?}; no models directory is set (SECATEUR_MODELS_DIR)")]
    NoDirectory(String),
    /// What is there is a link to another place.
    #[error(
        "the local model {0:?} is a link that leads out of the models directory (SECATEUR_MODELS_DIR): move or mount the model into it"
    )]
    LeadsOut(String),
}

impl ModelLibrary {
    /// The directory of a local model. An id never leads out of the models directory, symbolic links included.
    pub fn locate(&self, id: &str) -> Result<PathBuf, ModelNotFound> {
        let found = match &self.models_dir {
            Some(root) => directory_below(root, id),
            None => Err(ModelNotFound::NoDirectory(id.to_owned())),
        };
        match found {
            Err(ModelNotFound::Absent(_) | ModelNotFound::NoDirectory(_))
                if id == BUNDLED_MODEL =>
            {
                Ok(self.bundled_dir.join(BUNDLED_MODEL))
            }
            found => found,
        }
    }
}

fn directory_below(root: &Path, id: &str) -> Result<PathBuf, ModelNotFound> {
    let absent = || ModelNotFound::Absent(id.to_owned());
    let relative = Path::new(id);
    let mut parts = relative.components();
    if id.is_empty() || !parts.all(|part| matches!(part, Component::Normal(_))) {
        return Err(absent());
    }
    let resolved = |path: &Path| path.canonicalize().map_err(|_| absent());
    let (root, dir) = (resolved(root)?, resolved(&root.join(relative))?);
    if !dir.starts_with(root) {
        return Err(ModelNotFound::LeadsOut(id.to_owned()));
    }
    if dir.is_dir() { Ok(dir) } else { Err(absent()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_never_leads_out_of_the_models_directory() {
        let root = tempfile::tempdir().unwrap();
        let models = root.path().join("models");
        for dir in ["models/org/name", "outside"] {
            std::fs::create_dir_all(root.path().join(dir)).unwrap();
        }
        std::os::unix::fs::symlink(root.path().join("outside"), models.join("link")).unwrap();
        let library = ModelLibrary {
            models_dir: Some(models.clone()),
            bundled_dir: root.path().to_path_buf(),
            hub_cache: None,
        };
        assert_eq!(
            library.locate("org/name").unwrap(),
            models.canonicalize().unwrap().join("org/name")
        );
        let absolute = root.path().join("outside").display().to_string();
        let link = library.locate("link").unwrap_err();
        assert!(link.to_string().contains("leads out"), "{link}");
        for id in [
            "../outside",
            "org/../../outside",
            "",
            ".",
            "missing",
            absolute.as_str(),
        ] {
            assert!(library.locate(id).is_err(), "{id}");
        }
        assert_eq!(
            library.locate(BUNDLED_MODEL).unwrap(),
            root.path().join("demo")
        );
    }
}
