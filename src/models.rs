//! Finds local models: directories below the operator's models directory, and the bundled one.

use std::path::{Component, Path, PathBuf};

use crate::domain::redact::HiddenDirs;
use crate::domain::spec::{BUNDLED_MODEL, ModelRef, PruneSpec};
use crate::domain::{ErrorCode, Pattern, Refusal};
use crate::engine::{EngineError, ModelConfig, Sparsity};

/// Where local models may lie.
#[derive(Debug, Clone)]
pub struct ModelLibrary {
    /// `SECATEUR_MODELS_DIR`.
    pub models_dir: Option<PathBuf>,
    /// Where the bundled model was unpacked.
    pub bundled_dir: PathBuf,
}

/// No local model of this id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no local model {id:?}{}", if *has_models_dir { "" } else { "; no models directory is set (SECATEUR_MODELS_DIR)" })]
pub struct ModelNotFound {
    id: String,
    has_models_dir: bool,
}

/// Why a model could not be checked.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The job cannot be done; never empty.
    #[error("the job cannot be accepted")]
    Refused(Vec<Refusal>),
    /// The model's files cannot be read, for which the submitter is not to blame.
    #[error("the model cannot be read")]
    Unreadable(#[source] EngineError),
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

    /// Checks what can be known before the job runs: that a local model is there, that its architecture is
    /// supported, that the pattern and the windows fit it; and fills in the windows' length if it was left open.
    /// Hub models are checked when the job runs.
    pub fn complete(&self, mut spec: PruneSpec) -> Result<PruneSpec, CheckError> {
        let ModelRef::Local { id } = &spec.model else {
            return Ok(spec);
        };
        let config = self.read_config(id)?;
        let mut refusals = Vec::new();
        if let Pattern::KeptOfGroup { kept, group } = spec.pattern
            && let Err(error) = config.check_pattern(Sparsity::KeptOfGroup { kept, group })
        {
            let code = ErrorCode::of_engine(&error);
            refusals.push(refusal("/pattern", code, error.to_string()));
        }
        for (pointer, seq_len) in [
            ("/calibration/seq_len", spec.calibration.seq_len),
            ("/evaluation/seq_len", spec.evaluation.seq_len),
        ] {
            if let Some(len) = seq_len.filter(|&len| len > config.max_seq_len) {
                let detail = format!(
                    "windows of {len} tokens are longer than the model's context of {}",
                    config.max_seq_len
                );
                refusals.push(refusal(pointer, ErrorCode::SeqLenTooLong, detail));
            }
        }
        if !refusals.is_empty() {
            return Err(CheckError::Refused(refusals));
        }
        let seq_len = Some(config.default_seq_len());
        spec.calibration.seq_len = spec.calibration.seq_len.or(seq_len);
        spec.evaluation.seq_len = spec.evaluation.seq_len.or(seq_len);
        Ok(spec)
    }

    fn read_config(&self, id: &str) -> Result<ModelConfig, CheckError> {
        let refuse = |code, detail| CheckError::Refused(vec![refusal("/model", code, detail)]);
        let dir = self
            .locate(id)
            .map_err(|error| refuse(ErrorCode::ModelNotFound, error.to_string()))?;
        // Every model that was found is there, unless it is the bundled one and this server lost its own files.
        std::fs::metadata(&dir).map_err(|source| {
            CheckError::Unreadable(EngineError::Io {
                action: "open",
                path: dir.clone(),
                source,
            })
        })?;
        ModelConfig::read(&dir).map_err(|error| match error {
            EngineError::Io { .. } => CheckError::Unreadable(error),
            other => {
                let hidden = HiddenDirs::default().with(&dir, "the model's directory");
                refuse(
                    ErrorCode::of_engine(&other),
                    hidden.hide(&other.to_string()),
                )
            }
        })
    }
}

fn refusal(pointer: &str, code: ErrorCode, detail: String) -> Refusal {
    Refusal {
        pointer: pointer.to_owned(),
        code,
        detail,
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
