//! The data sets that a job lacks or takes from the hub, found before it runs.

use super::{DataRoots, DatasetNotFound, Place};
use crate::corpora::Use;
use crate::domain::spec::JobSpec;
use crate::domain::spec::TaskRef;
use crate::domain::{ErrorCode, Refusal};
use crate::tasks::{Split, Task};

impl DataRoots {
    /// Missing data sets of a job. A method that reads no calibration data needs none.
    pub fn missing(&self, spec: &JobSpec) -> Vec<Refusal> {
        let mut refusals = Vec::new();
        let mut check = |pointer: String, found: Result<(), DatasetNotFound>| {
            refusals.extend(found.err().map(|error| Refusal {
                pointer,
                code: ErrorCode::DatasetNotFound,
                detail: error.to_string(),
            }));
        };
        if let JobSpec::Prune(spec) = spec
            && let Some(calibration) = spec.calibration_in_use()
        {
            let found = self.locate(&calibration.dataset, Use::Calibration);
            check("/calibration".to_owned(), found.map(drop));
        }
        let evaluation = spec.evaluation();
        for (i, text) in evaluation.perplexity.iter().enumerate() {
            let found = self.locate(text, Use::Evaluation);
            check(format!("/evaluation/perplexity/{i}"), found.map(drop));
        }
        for (i, task) in evaluation.tasks.iter().enumerate() {
            check(format!("/evaluation/tasks/{i}"), self.locate_task(task));
        }
        refusals
    }

    /// Names of a job's data sets that come from the hub, or from its cache.
    pub fn from_hub(&self, spec: &JobSpec) -> Vec<String> {
        let mut names = Vec::new();
        let mut note = |name: &str, found: Result<Place, DatasetNotFound>| {
            if let Ok(Place::Hub { .. }) = found {
                names.push(name.to_owned());
            }
        };
        if let JobSpec::Prune(spec) = spec
            && let Some(calibration) = spec.calibration_in_use()
        {
            let dataset = &calibration.dataset;
            note(dataset.name(), self.locate(dataset, Use::Calibration));
        }
        let evaluation = spec.evaluation();
        for text in &evaluation.perplexity {
            note(text.name(), self.locate(text, Use::Evaluation));
        }
        for task in &evaluation.tasks {
            let found = Task::find(&task.name).map(|found| splits(found, task.shots));
            for split in found.into_iter().flatten() {
                note(&task.name, self.locate_split(split));
            }
        }
        names.sort();
        names.dedup();
        names
    }

    /// Finds a task's documents and those of its worked examples.
    fn locate_task(&self, task: &TaskRef) -> Result<(), DatasetNotFound> {
        let Some(found) = Task::find(&task.name) else {
            return Ok(());
        };
        splits(found, task.shots)
            .into_iter()
            .try_for_each(|split| self.locate_split(split).map(drop))
    }
}

/// The splits that a task reads with this number of worked examples.
pub(super) fn splits(task: &Task, shots: usize) -> Vec<&Split> {
    let examples = task.examples.as_ref().filter(|_| shots > 0);
    let examples = examples.map(|examples| &examples.split);
    [&task.split].into_iter().chain(examples).collect()
}
