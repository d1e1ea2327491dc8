//! Data sets → files on this machine, before any work is done on them.

use std::path::PathBuf;

use super::download;
use crate::datasets::Place;
use crate::domain::job::progress::Phase;
use crate::pipeline::hub::{HubOptions, fetch_split};
use crate::pipeline::plan::EvaluationPlan;
use crate::pipeline::stopwatch::Stopwatch;
use crate::pipeline::{Listener, PipelineError};

/// The files of a plan's texts and tasks.
pub(in crate::pipeline) struct LocalFiles {
    /// Of the calibration text; none where the windows are given.
    pub(in crate::pipeline) calibration: Vec<PathBuf>,
    /// Of each evaluation text.
    pub(in crate::pipeline) texts: Vec<Vec<PathBuf>>,
    /// Of each task.
    pub(in crate::pipeline) tasks: Vec<TaskFiles>,
}

/// The files of a task.
pub(in crate::pipeline) struct TaskFiles {
    /// Its documents.
    pub(in crate::pipeline) documents: Vec<PathBuf>,
    /// Its worked examples, if it is run with any.
    pub(in crate::pipeline) examples: Vec<PathBuf>,
}

/// Fetches what is not on this machine yet; `calibration` is the text that windows are drawn from.
pub(in crate::pipeline) fn fetch(
    calibration: Option<&Place>,
    evaluation: &EvaluationPlan,
    stopwatch: &mut Stopwatch,
    listener: &mut dyn Listener,
) -> Result<LocalFiles, PipelineError> {
    let mut local = |place: &Place| local_files(place, stopwatch, listener);
    let calibration = calibration.map_or(Ok(Vec::new()), &mut local)?;
    let texts = evaluation
        .texts
        .iter()
        .map(|text| local(&text.place))
        .collect::<Result<_, _>>()?;
    let mut tasks = Vec::new();
    for plan in &evaluation.tasks {
        tasks.push(TaskFiles {
            documents: local(&plan.documents)?,
            examples: plan.examples.as_ref().map_or(Ok(Vec::new()), &mut local)?,
        });
    }
    Ok(LocalFiles {
        calibration,
        texts,
        tasks,
    })
}

fn local_files(
    place: &Place,
    stopwatch: &mut Stopwatch,
    listener: &mut dyn Listener,
) -> Result<Vec<PathBuf>, PipelineError> {
    match place {
        Place::File(path) => Ok(vec![path.clone()]),
        Place::Hub { split, otherwise } => {
            stopwatch.enter(Phase::Downloading, listener);
            let options = HubOptions::from_env();
            let runtime = download::runtime()?;
            let fetched = download::watched(&runtime, listener, async |tell| {
                fetch_split(split, &options, tell).await
            })?;
            fetched.map_err(|source| PipelineError::DatasetNotFetched {
                otherwise: otherwise.clone(),
                source,
            })
        }
    }
}
