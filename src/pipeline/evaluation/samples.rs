//! Scores of single documents, one JSON object per line.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use serde::Serialize;

use super::measure::{Measured, ModelScores};
use super::prepare::Prepared;
use super::score::DocumentScore;
use crate::pipeline::PipelineError;

/// One document, scored by one model.
#[derive(Serialize)]
struct Sample<'a> {
    task: &'static str,
    /// `before` or `after`.
    model: &'static str,
    #[serde(flatten)]
    score: &'a DocumentScore,
}

/// Makes the file.
pub(super) fn create(path: &Path) -> Result<File, PipelineError> {
    File::create(path).map_err(|error| PipelineError::io("create", path, error))
}

/// Writes every document of every task, task by task; where there are two models, those of the first one first.
pub(super) fn write(
    path: &Path,
    file: File,
    prepared: &Prepared,
    measured: &Measured,
) -> Result<(), PipelineError> {
    let models = [
        ("before", measured.before.as_ref()),
        ("after", Some(&measured.after)),
    ];
    let mut file = BufWriter::new(file);
    let mut write_all = || {
        for (name, scores) in models {
            scores.map_or(Ok(()), |scores| {
                write_model(&mut file, name, prepared, scores)
            })?;
        }
        file.flush()?;
        file.get_ref().sync_all()
    };
    write_all().map_err(|error| PipelineError::io("write", path, error))
}

fn write_model(
    file: &mut impl Write,
    model: &'static str,
    prepared: &Prepared,
    scores: &ModelScores,
) -> io::Result<()> {
    for (task, scores) in prepared.tasks.iter().zip(&scores.tasks) {
        for score in scores {
            let sample = Sample {
                task: task.task.name,
                model,
                score,
            };
            serde_json::to_writer(&mut *file, &sample)?;
            file.write_all(b"\n")?;
        }
    }
    Ok(())
}
