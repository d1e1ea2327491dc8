//! A model's name → a directory with its files, on this machine.

use std::path::PathBuf;

use super::download;
use crate::domain::job::progress::Phase;
use crate::domain::spec::PinnedCommit;
use crate::engine::ModelPlan;
use crate::pipeline::hub::{HubModel, HubOptions};
use crate::pipeline::plan::ModelSource;
use crate::pipeline::stopwatch::Stopwatch;
use crate::pipeline::{Listener, PipelineError};

/// A model on this machine.
#[derive(Debug, Clone)]
pub struct ResolvedModel {
    /// Its directory.
    pub dir: PathBuf,
    /// `hub`, `local` or `job`.
    pub source: &'static str,
    /// The name that was asked for.
    pub id: String,
    /// The hub's commit.
    pub commit: Option<String>,
}

pub(in crate::pipeline) fn resolve(
    model: &ModelSource,
    stopwatch: &mut Stopwatch,
    listener: &mut dyn Listener,
) -> Result<ResolvedModel, PipelineError> {
    match model {
        ModelSource::Artifact { id, path } => Ok(ResolvedModel {
            dir: path.clone(),
            source: "job",
            id: id.clone(),
            commit: None,
        }),
        ModelSource::Directory { id, path } => Ok(ResolvedModel {
            dir: path.clone(),
            source: "local",
            id: id.clone(),
            commit: None,
        }),
        ModelSource::Hub {
            id,
            revision,
            commit,
        } => fetch(id, revision, commit.as_deref(), stopwatch, listener),
    }
}

/// Fetches the configuration alone first: an unsupported model fails before gigabytes of it are fetched.
fn fetch(
    id: &str,
    revision: &str,
    commit: Option<&str>,
    stopwatch: &mut Stopwatch,
    listener: &mut dyn Listener,
) -> Result<ResolvedModel, PipelineError> {
    let runtime = download::runtime()?;
    let options = HubOptions::from_env();
    let resolved = HubModel::resolve(id, commit.unwrap_or(revision), &options);
    let hub_model = runtime.block_on(resolved)?;
    if commit.is_none() {
        listener.pinned(PinnedCommit {
            id: id.to_owned(),
            revision: revision.to_owned(),
            commit: hub_model.commit().to_owned(),
        });
    }
    let config = runtime.block_on(hub_model.fetch_config())?;
    ModelPlan::read(config.parent().unwrap_or(&config))?;
    stopwatch.enter(Phase::Downloading, listener);
    let fetched = download::watched(&runtime, listener, async |tell| hub_model.fetch(tell).await)??;
    Ok(ResolvedModel {
        dir: fetched.dir,
        source: "hub",
        id: id.to_owned(),
        commit: Some(fetched.commit),
    })
}
