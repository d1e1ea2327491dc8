//! What is measured, with every text and task located.

use std::path::PathBuf;

use super::{TextSource, data_roots};
use crate::corpora::Use;
use crate::datasets::{DataRoots, DatasetNotFound, Place};
use crate::domain::ErrorCode;
use crate::domain::attempt::AttemptSpec;
use crate::domain::spec::{EvaluationSpec, TaskRef};
use crate::pipeline::PipelineError;
use crate::tasks::Task;

/// What is measured before and after.
#[derive(Debug, Clone, Default)]
pub struct EvaluationPlan {
    /// What was asked for.
    pub spec: EvaluationSpec,
    /// Texts to measure perplexity on: those of the spec, and files of the command line.
    pub texts: Vec<TextSource>,
    /// The tasks of the spec.
    pub tasks: Vec<TaskSource>,
    /// Where scores are kept from one measurement to the next; `None` = nowhere.
    pub scores_dir: Option<PathBuf>,
    /// Bytes of memory that the whole job may take; `None` = what is free.
    pub memory_bytes: Option<u64>,
}

/// A task and its data sets.
#[derive(Debug, Clone)]
pub struct TaskSource {
    /// The task.
    pub task: &'static Task,
    /// Worked examples before each question.
    pub shots: usize,
    /// Its documents.
    pub documents: Place,
    /// Its worked examples, if it is run with any.
    pub examples: Option<Place>,
}

impl EvaluationPlan {
    /// Finds the texts and tasks of a spec.
    pub fn locate(
        spec: EvaluationSpec,
        roots: &DataRoots,
        scores_dir: Option<PathBuf>,
    ) -> Result<Self, PipelineError> {
        let texts = spec.perplexity.iter();
        let texts = texts.map(|dataset| {
            let place = roots.locate(dataset, Use::Evaluation)?;
            Ok(TextSource {
                name: dataset.name().to_owned(),
                place,
                excerpt: dataset.excerpt(),
            })
        });
        let texts = texts.collect::<Result<_, DatasetNotFound>>()?;
        let tasks = spec
            .tasks
            .iter()
            .map(|task| TaskSource::locate(task, roots));
        Ok(Self {
            texts,
            tasks: tasks.collect::<Result<_, _>>()?,
            scores_dir,
            memory_bytes: None,
            spec,
        })
    }

    /// The same within the memory of an attempt.
    pub(in crate::pipeline) fn of_attempt(
        attempt: &AttemptSpec,
        spec: &EvaluationSpec,
    ) -> Result<Self, PipelineError> {
        let scores_dir = Some(attempt.scores_dir.clone());
        Ok(Self {
            memory_bytes: attempt.memory_bytes,
            ..Self::locate(spec.clone(), &data_roots(attempt), scores_dir)?
        })
    }

    /// Whether nothing is measured.
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty() && self.tasks.is_empty()
    }
}

impl TaskSource {
    fn locate(asked: &TaskRef, roots: &DataRoots) -> Result<Self, PipelineError> {
        let task = Task::find(&asked.name).ok_or_else(|| {
            let message = format!("there is no task {:?}", asked.name);
            PipelineError::refused(ErrorCode::InvalidRequest, message)
        })?;
        let examples = task.examples.filter(|_| asked.shots > 0);
        Ok(Self {
            task,
            shots: asked.shots,
            documents: roots.locate_split(&task.split)?,
            examples: examples
                .map(|examples| roots.locate_split(&examples.split))
                .transpose()?,
        })
    }
}
