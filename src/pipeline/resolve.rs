//! A model's name → a directory with its files, on this machine.

use std::path::PathBuf;
use std::time::Duration;

use super::hub::{HubModel, HubOptions};
use super::plan::ModelSource;
use super::stopwatch::Stopwatch;
use super::{Listener, PipelineError};
use crate::domain::attempt::{Phase, Step};
use crate::engine::{EngineError, ModelConfig};

/// How often a download looks whether it shall stop.
const STOP_INTERVAL: Duration = Duration::from_millis(200);

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

pub(super) fn resolve(
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
        ModelSource::Hub { id, revision } => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|source| {
                    PipelineError::io("start", "the network runtime".as_ref(), source)
                })?;
            runtime.block_on(fetch(id, revision, stopwatch, listener))
        }
    }
}

/// Fetches the configuration alone first: an unsupported model fails before gigabytes of it are fetched.
async fn fetch(
    id: &str,
    revision: &str,
    stopwatch: &mut Stopwatch,
    listener: &mut dyn Listener,
) -> Result<ResolvedModel, PipelineError> {
    let hub_model = HubModel::resolve(id, revision, &HubOptions::from_env()).await?;
    let config = hub_model.fetch_config().await?;
    ModelConfig::read(config.parent().unwrap_or(&config))?;
    stopwatch.enter(Phase::Downloading, listener);
    // Steps pass through a channel: the download holds the sending end, the listener is asked between steps.
    let (sender, mut steps) = tokio::sync::mpsc::unbounded_channel();
    let mut tell = |step: Step| drop(sender.send(step));
    let mut fetch = std::pin::pin!(hub_model.fetch(&mut tell));
    let mut look = tokio::time::interval(STOP_INTERVAL);
    let fetched = loop {
        tokio::select! {
            fetched = &mut fetch => break fetched?,
            Some(step) = steps.recv() => listener.progress(step),
            _ = look.tick() => if listener.should_stop() {
                return Err(EngineError::Stopped.into());
            },
        }
    };
    Ok(ResolvedModel {
        dir: fetched.dir,
        source: "hub",
        id: id.to_owned(),
        commit: Some(fetched.commit),
    })
}
