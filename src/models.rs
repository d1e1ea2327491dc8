//! Finds local models: directories below the operator's models directory, and the bundled one.

use std::path::{Component, Path, PathBuf};

use crate::domain::spec::{ModelRef, PruneSpec};
use crate::domain::{ErrorCode, Pattern};
use crate::engine::{EngineError, ModelConfig, Sparsity};

/// Id of the bundled model.
pub const BUNDLED_MODEL: &str = "demo";

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

/// Why a job cannot be accepted, and which field of its body is to blame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// JSON pointer into the request body.
    pub pointer: &'static str,
    /// The stable reason.
    pub code: ErrorCode,
    /// What is wrong, with the facts.
    pub detail: String,
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
    pub fn complete(&self, mut spec: PruneSpec) -> Result<PruneSpec, Vec<Refusal>> {
        let ModelRef::Local { id } = &spec.model else {
            return Ok(spec);
        };
        let refuse = |pointer, code, detail: String| {
            vec![Refusal {
                pointer,
                code,
                detail,
            }]
        };
        let dir = self
            .locate(id)
            .map_err(|error| refuse("/model", ErrorCode::ModelNotFound, error.to_string()))?;
        let config = ModelConfig::read(&dir)
            .map_err(|error| refuse("/model", config_code(&error), error.to_string()))?;
        let mut refusals = Vec::new();
        if let Pattern::KeptOfGroup { kept, group } = spec.pattern
            && let Err(error) = config.check_pattern(Sparsity::KeptOfGroup { kept, group })
        {
            refusals.extend(refuse(
                "/pattern",
                ErrorCode::PatternMismatch,
                error.to_string(),
            ));
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
                refusals.extend(refuse(pointer, ErrorCode::SeqLenTooLong, detail));
            }
        }
        if !refusals.is_empty() {
            return Err(refusals);
        }
        let seq_len = Some(config.default_seq_len());
        spec.calibration.seq_len = spec.calibration.seq_len.or(seq_len);
        spec.evaluation.seq_len = spec.evaluation.seq_len.or(seq_len);
        Ok(spec)
    }
}

fn config_code(error: &EngineError) -> ErrorCode {
    match error {
        EngineError::UnsupportedArchitecture(_) => ErrorCode::UnsupportedArchitecture,
        _ => ErrorCode::InvalidConfig,
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
