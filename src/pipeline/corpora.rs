//! Data sets → files on this machine, before any work is done on them.

use std::path::PathBuf;

use super::hub::{HubOptions, fetch_split};
use super::plan::{Corpus, EvaluationPlan};
use super::stopwatch::Stopwatch;
use super::{Listener, PipelineError, download};
use crate::datasets::{DataRoots, DocumentSource, Documents, Place};
use crate::domain::attempt::Phase;
use crate::tasks::Split;

/// The files of a plan's texts.
pub(super) struct LocalFiles {
    /// Of the calibration text; none where the windows are given.
    pub(super) calibration: Vec<PathBuf>,
    /// Of each evaluation text.
    pub(super) evaluation: Vec<Vec<PathBuf>>,
}

/// Fetches what is not on this machine yet. `calibration` is `None` for work that draws no windows.
pub(super) fn fetch(
    calibration: Option<&Corpus>,
    evaluation: &EvaluationPlan,
    stopwatch: &mut Stopwatch,
    listener: &mut dyn Listener,
) -> Result<LocalFiles, PipelineError> {
    let mut local = |place: &Place| local_files(place, stopwatch, listener);
    let calibration = match calibration {
        Some(Corpus::Text { place, .. }) => local(place)?,
        Some(Corpus::Ids(_)) | None => Vec::new(),
    };
    let evaluation = evaluation.texts.iter().map(|text| local(&text.place));
    Ok(LocalFiles {
        calibration,
        evaluation: evaluation.collect::<Result<_, _>>()?,
    })
}

/// The first `limit` documents (`None` = all) of a task's split, fetched if they are not on this machine yet.
#[expect(dead_code, reason = "for the evaluation of tasks")]
pub(super) fn documents(
    roots: &DataRoots,
    split: &Split,
    limit: Option<usize>,
    stopwatch: &mut Stopwatch,
    listener: &mut dyn Listener,
) -> Result<Documents, PipelineError> {
    let place = roots.locate_split(split)?;
    let source = match &place {
        Place::File(_) => DocumentSource::Local,
        Place::Hub { split, .. } => DocumentSource::Hub {
            commit: split.revision,
        },
    };
    let files = local_files(&place, stopwatch, listener)?;
    Ok(Documents::read(&files, source, limit)?)
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
