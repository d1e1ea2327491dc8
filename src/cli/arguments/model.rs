//! `--model`: a directory, a hub id, or the bundled model.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::bundled;
use crate::domain::spec::BUNDLED_MODEL;
use crate::pipeline::ModelSource;

/// A model named on the command line. The bundled one is unpacked for as long as this lives.
pub(in crate::cli) struct ModelArgument {
    pub(in crate::cli) source: ModelSource,
    unpacked: Option<tempfile::TempDir>,
}

impl ModelArgument {
    /// A directory if there is one of this name, the bundled model for `demo`, a hub id otherwise.
    pub(in crate::cli) fn find(name: &str, revision: &str) -> anyhow::Result<Self> {
        if Path::new(name).is_dir() {
            let source = ModelSource::Directory {
                id: name.to_owned(),
                path: PathBuf::from(name),
            };
            return Ok(Self {
                source,
                unpacked: None,
            });
        }
        if name == BUNDLED_MODEL {
            let unpacked = tempfile::tempdir().context("cannot create a temporary directory")?;
            bundled::unpack(unpacked.path()).context("cannot unpack the bundled model")?;
            let path = unpacked.path().join(BUNDLED_MODEL);
            let source = ModelSource::Directory {
                id: name.to_owned(),
                path,
            };
            return Ok(Self {
                source,
                unpacked: Some(unpacked),
            });
        }
        if name.split('/').filter(|part| !part.is_empty()).count() == 2
            && !name.starts_with(['/', '.'])
        {
            let source = ModelSource::Hub {
                id: name.to_owned(),
                revision: revision.to_owned(),
                commit: None,
                found_at: None,
            };
            return Ok(Self {
                source,
                unpacked: None,
            });
        }
        bail!("model_not_found: {name:?} is neither a directory nor a hub id such as org/name")
    }

    /// A part of the bundled model's own text, if this is the bundled model.
    pub(in crate::cli) fn bundled_text(&self, part: &str) -> Option<PathBuf> {
        self.unpacked.as_ref().map(|dir| dir.path().join(part))
    }
}
