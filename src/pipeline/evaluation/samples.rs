//! Scores of single documents, one JSON object per line.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use serde::Serialize;

use super::super::PipelineError;
use super::measure::{Measured, ModelScores};
use super::prepare::Prepared;
use super::task::DocumentScore;

/// One document, scored by one model.
#[derive(Serialize)]
struct Sample<'a> {
    task: &'static str,
    /// `before` or `after`.
    model: &'static str,
    #[serde(flatten)]
    score: &'a DocumentScore,
}

/// Writes every document of every task, task by task; where there are two models, those of the first one first.
pub(super) fn write(
    path: &Path,
    prepared: &Prepared,
    measured: &Measured,
) -> Result<(), PipelineError> {
    let models = [
        ("before", measured.before.as_ref()),
        ("after", Some(&measured.after)),
    ];
    let written = File::create(path).and_then(|file| {
        let mut file = BufWriter::new(file);
        for (name, scores) in models {
            scores.map_or(Ok(()), |scores| {
                write_model(&mut file, name, prepared, scores)
            })?;
        }
        file.into_inner()?.sync_all()
    });
    written.map_err(|error| PipelineError::io("write", path, error))
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
