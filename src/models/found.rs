//! Lists the models that lie on this machine: local directories, and complete ones in the hub's cache.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::check::{ConfigError, read};
use super::{ModelLibrary, weight_files};
use crate::domain::ErrorCode;
use crate::domain::spec::{BUNDLED_MODEL, ModelRef};
use crate::engine::ModelPlan;

/// Directories below the models directory that a local model's id may name.
const MAX_DEPTH: usize = 3;

/// A model that lies on this machine.
#[derive(Debug)]
pub struct FoundModel {
    /// What a submission says to use it.
    pub model: ModelRef,
    /// Bytes of its weight files; 0 unless all of them are there.
    pub size_bytes: u64,
    /// What its configuration says, or why a submission of it is refused.
    pub plan: Result<ModelPlan, (ErrorCode, String)>,
}

impl ModelLibrary {
    /// Every model on this machine: the local ones by their ids, then the cached ones.
    pub fn list(&self) -> Vec<FoundModel> {
        let mut dirs = BTreeMap::from([(
            BUNDLED_MODEL.to_owned(),
            self.bundled_dir.join(BUNDLED_MODEL),
        )]);
        if let Some(root) = &self.models_dir {
            add_local(root, "", MAX_DEPTH, &mut dirs);
        }
        let local = dirs.into_iter().filter_map(|(id, dir)| {
            // A link that leads out is no model.
            self.locate(&id).ok()?;
            Some((ModelRef::Local { id }, dir))
        });
        let cached = self.hub_cache.as_deref().map(cached).unwrap_or_default();
        local
            .chain(cached)
            .map(|(model, dir)| found(model, &dir))
            .collect()
    }
}

fn found(model: ModelRef, dir: &Path) -> FoundModel {
    let plan = read(dir).map_err(|error| match error {
        ConfigError::Refused(code, detail) => (code, detail),
        ConfigError::Unreadable(_) => {
            let detail = "its configuration cannot be read".to_owned();
            (ErrorCode::Io, detail)
        }
    });
    FoundModel {
        size_bytes: weight_files::size_bytes(dir).unwrap_or_default(),
        model,
        plan,
    }
}

/// Directories with a configuration below `dir`, by their paths from the root.
fn add_local(dir: &Path, prefix: &str, depth: usize, found: &mut BTreeMap<String, PathBuf>) {
    for (name, path) in entries(dir) {
        if name.starts_with('.') || !path.is_dir() {
            continue;
        }
        let id = format!("{prefix}{name}");
        if path.join("config.json").is_file() {
            found.insert(id, path);
        } else if depth > 1 {
            add_local(&path, &format!("{id}/"), depth - 1, found);
        }
    }
}

/// The snapshots of a cache that have a configuration and all weights.
fn cached(root: &Path) -> Vec<(ModelRef, PathBuf)> {
    let mut found = Vec::new();
    for (folder, path) in entries(root) {
        let Some((owner, name)) = folder
            .strip_prefix("models--")
            .and_then(|name| name.split_once("--"))
        else {
            continue;
        };
        for (commit, dir) in entries(&path.join("snapshots")) {
            if dir.join("config.json").is_file() && weight_files::size_bytes(&dir).is_some() {
                let id = format!("{owner}/{name}");
                found.push((
                    ModelRef::Hub {
                        id,
                        revision: commit,
                    },
                    dir,
                ));
            }
        }
    }
    found
}

/// What lies in a directory, by name; nothing where it cannot be read.
fn entries(dir: &Path) -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let named =
        entries.filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())));
    let mut named: Vec<_> = named.collect();
    named.sort();
    named
}
