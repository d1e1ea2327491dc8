//! Finds local models: directories below the operator's models directory, and the bundled one.

mod check;
mod found;

use std::path::{Component, Path, PathBuf};

use crate::domain::spec::BUNDLED_MODEL;
pub use check::{CheckError, Checked};
pub use found::FoundModel;

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
#[error("there is no local model {id:?}{}", if *has_models_dir { "" } else { "; no models directory is set (SECATEUR_MODELS_DIR)" })]
pub struct ModelNotFound {
    id: String,
    has_models_dir: bool,
}

impl ModelLibrary {
    /// The directory of a local model. An id never leads out of the models directory, symbolic links included.
    pub fn locate(&self, id: &str) -> Result<PathBuf, ModelNotFound> {
        let found = self
            .models_dir
            .as_deref()
            .and_then(|root| directory_below(root, id));
        let bundled = || (id == BUNDLED_MODEL).then(|| self.bundled_dir.join(BUNDLED_MODEL));
        let not_found = || ModelNotFound {
            id: id.to_owned(),
            has_models_dir: self.models_dir.is_some(),
        };
        found.or_else(bundled).ok_or_else(not_found)
    }
}

fn directory_below(root: &Path, id: &str) -> Option<PathBuf> {
    let relative = Path::new(id);
    let is_plain = !id.is_empty()
        && relative
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
    let dir = root
        .join(relative)
        .canonicalize()
        .ok()
        .filter(|_| is_plain)?;
    (dir.starts_with(root.canonicalize().ok()?) && dir.is_dir()).then_some(dir)
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
        for id in [
            "../outside",
            "org/../../outside",
            "link",
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
